//! Prints the shapes an image takes through four stages down and four stages up.
//!
//! `cargo run -p resnet-blocks --example print_stages`

use burn::prelude::*;
use resnet_blocks::{Sampling, StageConfig};

fn main() {
    let device = Device::flex();
    let mut maps = Tensor::<4>::ones([1, 3, 32, 32], &device);
    println!("image            {:?}", maps.dims());
    for (sampling, name) in [(Sampling::Strided, "down"), (Sampling::Transposed, "up")] {
        for (index, stride) in [1, 2, 2, 2].into_iter().enumerate() {
            let [_, channels, ..] = maps.dims();
            let stage = StageConfig::new(channels, 8 << index, 1)
                .with_stride(stride)
                .with_sampling(sampling)
                .init(&device);
            maps = stage.forward(maps);
            println!(
                "{name:4} {index}, stride {stride} {:?}  {} parameters",
                maps.dims(),
                stage.num_params()
            );
        }
    }
}
