//! Each block's time, forward alone and with its backward, beside Burn's own layers, and as batch and pixels grow.
//!
//! `cargo bench --workspace --profile dev --bench blocks` measures; with `--test` each case runs once.

use std::hint::black_box;
use std::time::Duration;

use burn::prelude::*;
use criterion::measurement::WallTime;
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
};
use resnet_blocks::{
    BasicBlockConfig, Block, BottleneckConfig, Sampling, Shortcuts, with_plain_blocks,
};

/// Of the reference model's second stage at an eighth of its width.
const WIDTH: usize = 16;
const BATCH: usize = 25;
const PIXELS: usize = 16;

struct Case {
    name: &'static str,
    channels_in: usize,
    block: fn(usize, &Device) -> Block,
}

fn bottleneck(
    channels_in: usize,
    stride: usize,
    sampling: Sampling,
    shortcuts: Shortcuts,
    device: &Device,
) -> Block {
    Block::Bottleneck(
        BottleneckConfig::new(channels_in, WIDTH)
            .with_stride(stride)
            .with_sampling(sampling)
            .with_shortcuts(shortcuts)
            .init(device),
    )
}

const CASES: [Case; 6] = [
    Case {
        name: "bottleneck identity",
        channels_in: 4 * WIDTH,
        block: |channels, device| {
            bottleneck(channels, 1, Sampling::Strided, Shortcuts::Residual, device)
        },
    },
    Case {
        name: "bottleneck projection",
        channels_in: 2 * WIDTH,
        block: |channels, device| {
            bottleneck(channels, 2, Sampling::Strided, Shortcuts::Residual, device)
        },
    },
    Case {
        name: "bottleneck transposed",
        channels_in: 2 * WIDTH,
        block: |channels, device| {
            bottleneck(
                channels,
                2,
                Sampling::Transposed,
                Shortcuts::Residual,
                device,
            )
        },
    },
    Case {
        name: "bottleneck plain",
        channels_in: 4 * WIDTH,
        block: |channels, device| {
            bottleneck(channels, 1, Sampling::Strided, Shortcuts::Plain, device)
        },
    },
    Case {
        name: "basic identity",
        channels_in: WIDTH,
        block: |channels, device| Block::Basic(BasicBlockConfig::new(channels, WIDTH).init(device)),
    },
    Case {
        name: "basic projection",
        channels_in: WIDTH,
        block: |channels, device| {
            Block::Basic(
                BasicBlockConfig::new(channels, 2 * WIDTH)
                    .with_stride(2)
                    .init(device),
            )
        },
    },
];

fn input(case: &Case, batch: usize, pixels: usize, device: &Device) -> Tensor<4> {
    let dims = [batch, case.channels_in, pixels, pixels];
    // Any values do: no kernel's time depends on them.
    let values = (0..dims.iter().product()).map(|index: usize| (index % 17) as f32 / 8.5 - 1.0);
    Tensor::from_data(TensorData::new(values.collect::<Vec<_>>(), dims), device)
}

/// A forward pass with the batch's statistics, and its backward pass where it is wanted, to the input and to all parameters.
fn step(block: &Block, input: &Tensor<4>, is_backward: bool) {
    let output = block.forward(input.clone());
    if is_backward {
        black_box(output.sum().backward());
    } else {
        black_box(output);
    }
}

fn time(
    group: &mut BenchmarkGroup<WallTime>,
    id: BenchmarkId,
    case: &Case,
    [batch, pixels]: [usize; 2],
    is_backward: bool,
    is_plain: bool,
) {
    let device = Device::flex().autodiff();
    let mut block = (case.block)(case.channels_in, &device);
    let mut input = input(case, batch, pixels, &device);
    if is_backward {
        input = input.require_grad();
    } else {
        // A graph that no backward pass consumes would stay, and its memory would be what is measured.
        block = block.no_grad();
    }
    group.bench_function(id, |bencher| {
        bencher.iter(|| {
            if is_plain {
                with_plain_blocks(|| step(&block, &input, is_backward));
            } else {
                step(&block, &input, is_backward);
            }
        });
    });
}

fn each_block(criterion: &mut Criterion) {
    for case in &CASES {
        let mut group = criterion.benchmark_group(case.name);
        for (pass, is_backward) in [("forward", false), ("forward and backward", true)] {
            for (form, is_plain) in [("block", false), ("layers", true)] {
                let id = BenchmarkId::new(pass, form);
                time(&mut group, id, case, [BATCH, PIXELS], is_backward, is_plain);
            }
        }
    }
}

/// Time a pixel stays what it is as batch and image grow.
fn growth(criterion: &mut Criterion) {
    for case in &CASES[..3] {
        let mut group = criterion.benchmark_group(format!("{} as it grows", case.name));
        for (batch, pixels) in [(8, 16), (32, 16), (128, 16), (32, 8), (32, 32)] {
            group.throughput(Throughput::Elements((batch * pixels * pixels) as u64));
            let id = BenchmarkId::new("batch x pixels", format!("{batch} x {pixels}^2"));
            time(&mut group, id, case, [batch, pixels], true, false);
        }
    }
}

criterion_group! {
    name = blocks;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = each_block, growth
}
criterion_main!(blocks);
