//! Values that are computed side by side and taken in their order.

use std::sync::mpsc::sync_channel;

/// Calls `add` with `value(0)`, `value(1)`, .. in this order, of which `at_a_time` are computed side by side, each with its share of the threads.
pub(super) fn in_order<V: Send>(
    count: usize,
    at_a_time: usize,
    value: impl Fn(usize) -> V + Sync,
    mut add: impl FnMut(V),
) {
    let at_a_time = at_a_time.min(count);
    if at_a_time <= 1 {
        return (0..count).for_each(|index| add(value(index)));
    }
    let value = &value;
    // Each value has its own share of the threads: in a common pool they would wait for each other's work, and share caches.
    let threads_each = rayon::current_num_threads().div_ceil(at_a_time);
    std::thread::scope(|scope| {
        let mut threads: Vec<_> = (0..at_a_time)
            .map(|first| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads_each);
                // Where there is no memory for it, the common pool serves.
                let pool = pool.build().ok();
                // Holds one value, so that no thread is far ahead of the others.
                let (sender, receiver) = sync_channel(1);
                let thread = scope.spawn(move || {
                    let mut own = (first..count).step_by(at_a_time);
                    own.all(|index| {
                        let value = match &pool {
                            Some(pool) => pool.install(|| value(index)),
                            None => value(index),
                        };
                        sender.send(value).is_ok()
                    })
                });
                (receiver, thread)
            })
            .collect();
        for index in 0..count {
            let thread = index % threads.len();
            if let Ok(value) = threads[thread].0.recv() {
                add(value);
            } else {
                // It sends all its values unless it panics.
                let (_, thread) = threads.swap_remove(thread);
                let panic = thread.join().expect_err("a thread without a value left");
                drop(threads);
                std::panic::resume_unwind(panic);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_side_by_side_are_added_in_their_order() {
        for at_a_time in [1, 2, 3, 9] {
            let mut seen = Vec::new();
            in_order(
                7,
                at_a_time,
                |index| {
                    // The first of all are the last to end.
                    std::thread::sleep(std::time::Duration::from_millis(7 - index as u64));
                    index
                },
                |index| seen.push(index),
            );
            assert_eq!(seen, (0..7).collect::<Vec<_>>(), "{at_a_time}");
        }
    }

    #[test]
    #[should_panic = "of a draw"]
    fn a_draw_that_panics_ends_the_others() {
        in_order(100, 2, |index| assert!(index != 3, "of a draw"), |()| {});
    }
}
