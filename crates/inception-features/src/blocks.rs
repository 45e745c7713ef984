//! Inception's mixed blocks: several chains of convolutions beside each other, their channels one after the other.

use burn::prelude::*;
use burn::tensor::module::{avg_pool2d, max_pool2d};
use burn::tensor::ops::{AvgPoolOptions, MaxPoolOptions};

use crate::convolution::{Convolution, ConvolutionPlan, Steps};
use crate::joining::join;

/// One of the chains of a block, of convolutions or of their plans.
#[derive(Clone, Debug)]
enum Chain<C> {
    /// One convolution after the other.
    Convolutions(Vec<C>),
    /// Convolutions whose result two more take, each for itself.
    Forked(Vec<C>, [C; 2]),
    /// A pooling, then a convolution where there is one.
    Pooled(Pool, Option<C>),
}

/// Poolings over 3 x 3 pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pool {
    /// Mean of the pixels that there are; padding is none.
    Average,
    /// Largest, as many outputs as inputs.
    Maximum,
    /// Largest of every other place, never over the edge.
    Halving,
}

impl Pool {
    fn forward(self, images: Tensor<4>) -> Tensor<4> {
        let largest = MaxPoolOptions::new([3, 3]);
        match self {
            Self::Average => {
                let options = AvgPoolOptions::new([3, 3])
                    .with_stride([1, 1])
                    .with_padding([1, 1])
                    .with_count_include_pad(false);
                avg_pool2d(images, options)
            }
            Self::Maximum => max_pool2d(images, largest.with_stride([1, 1]).with_padding([1, 1])),
            Self::Halving => max_pool2d(images, largest.with_stride([2, 2])),
        }
    }
}

/// The largest of 3 x 3 pixels at every other place: between the first convolutions.
pub(crate) fn halve(images: Tensor<4>) -> Tensor<4> {
    Pool::Halving.forward(images)
}

/// Chains beside each other.
#[derive(Clone, Debug)]
pub(crate) struct Block<C>(Vec<Chain<C>>);

impl Block<ConvolutionPlan> {
    /// The block with each convolution in place of its plan.
    pub(crate) fn build<E>(
        self,
        build: &impl Fn(ConvolutionPlan) -> Result<Convolution, E>,
    ) -> Result<Block<Convolution>, E> {
        let all = |plans: Vec<ConvolutionPlan>| {
            plans.into_iter().map(build).collect::<Result<Vec<_>, _>>()
        };
        let chains = self.0.into_iter().map(|chain| {
            Ok(match chain {
                Chain::Convolutions(plans) => Chain::Convolutions(all(plans)?),
                Chain::Forked(plans, [across, down]) => {
                    Chain::Forked(all(plans)?, [build(across)?, build(down)?])
                }
                Chain::Pooled(pool, plan) => Chain::Pooled(pool, plan.map(build).transpose()?),
            })
        });
        Ok(Block(chains.collect::<Result<_, E>>()?))
    }

    /// Its convolutions, in order.
    pub(crate) fn plans(&self) -> Vec<&ConvolutionPlan> {
        let mut plans = Vec::new();
        for chain in &self.0 {
            match chain {
                Chain::Convolutions(convolutions) => plans.extend(convolutions),
                Chain::Forked(convolutions, fork) => plans.extend(convolutions.iter().chain(fork)),
                Chain::Pooled(_, convolution) => plans.extend(convolution),
            }
        }
        plans
    }
}

impl Block<Convolution> {
    /// `[batch, channels, height, width]` to the same with all chains' channels, in order.
    pub(crate) fn forward(&self, images: Tensor<4>) -> Tensor<4> {
        let run = |convolutions: &[Convolution], images: Tensor<4>| {
            convolutions
                .iter()
                .fold(images, |images, convolution| convolution.forward(images))
        };
        let mut results = Vec::new();
        for chain in &self.0 {
            let images = images.clone();
            match chain {
                Chain::Convolutions(convolutions) => results.push(run(convolutions, images)),
                Chain::Forked(convolutions, fork) => {
                    let images = run(convolutions, images);
                    results.extend(fork.iter().map(|last| last.forward(images.clone())));
                }
                Chain::Pooled(pool, convolution) => {
                    let pooled = pool.forward(images);
                    results.push(match convolution {
                        Some(convolution) => convolution.forward(pooled),
                        None => pooled,
                    });
                }
            }
        }
        join(results)
    }
}

/// Plans one block.
pub(crate) struct BlockPlan {
    pub(crate) name: &'static str,
    /// Channels that it takes.
    pub(crate) input: usize,
}

/// A convolution of a chain: its name in the block, channels that it gives, kernel.
type Link<'a> = (&'a str, usize, [usize; 2]);

const POINT: [usize; 2] = [1, 1];
const SQUARE: [usize; 2] = [3, 3];
const ROW: [usize; 2] = [1, 7];
const COLUMN: [usize; 2] = [7, 1];

impl BlockPlan {
    fn one(&self, input: usize, link: Link<'_>, steps: Steps) -> ConvolutionPlan {
        let (name, output, kernel) = link;
        ConvolutionPlan {
            name: format!("{}.{name}", self.name),
            input,
            output,
            kernel,
            steps,
        }
    }

    /// Links whose convolutions all keep the size, but the last, which takes `last` steps.
    fn links(&self, links: &[Link<'_>], last: Steps) -> Vec<ConvolutionPlan> {
        let mut input = self.input;
        let mut plans = Vec::new();
        for (index, link) in links.iter().enumerate() {
            let is_last = index + 1 == links.len();
            let steps = if is_last { last } else { Steps::Same };
            plans.push(self.one(input, *link, steps));
            input = link.1;
        }
        plans
    }

    fn chain(&self, links: &[Link<'_>]) -> Chain<ConvolutionPlan> {
        Chain::Convolutions(self.links(links, Steps::Same))
    }

    fn halving_chain(&self, links: &[Link<'_>]) -> Chain<ConvolutionPlan> {
        Chain::Convolutions(self.links(links, Steps::Inside(2)))
    }

    fn pooled(&self, pool: Pool, output: usize) -> Chain<ConvolutionPlan> {
        let plan = self.one(self.input, ("branch_pool", output, POINT), Steps::Same);
        Chain::Pooled(pool, Some(plan))
    }

    /// `Mixed_5`: 35 x 35 pixels.
    pub(crate) fn block_a(&self, pooled: usize) -> Block<ConvolutionPlan> {
        Block(vec![
            self.chain(&[("branch1x1", 64, POINT)]),
            self.chain(&[("branch5x5_1", 48, POINT), ("branch5x5_2", 64, [5, 5])]),
            self.chain(&[
                ("branch3x3dbl_1", 64, POINT),
                ("branch3x3dbl_2", 96, SQUARE),
                ("branch3x3dbl_3", 96, SQUARE),
            ]),
            self.pooled(Pool::Average, pooled),
        ])
    }

    /// `Mixed_6a`: to 17 x 17 pixels.
    pub(crate) fn block_b(&self) -> Block<ConvolutionPlan> {
        Block(vec![
            self.halving_chain(&[("branch3x3", 384, SQUARE)]),
            self.halving_chain(&[
                ("branch3x3dbl_1", 64, POINT),
                ("branch3x3dbl_2", 96, SQUARE),
                ("branch3x3dbl_3", 96, SQUARE),
            ]),
            Chain::Pooled(Pool::Halving, None),
        ])
    }

    /// `Mixed_6b` to `Mixed_6e`: 17 x 17 pixels, with so many channels between its long kernels.
    pub(crate) fn block_c(&self, inner: usize) -> Block<ConvolutionPlan> {
        Block(vec![
            self.chain(&[("branch1x1", 192, POINT)]),
            self.chain(&[
                ("branch7x7_1", inner, POINT),
                ("branch7x7_2", inner, ROW),
                ("branch7x7_3", 192, COLUMN),
            ]),
            self.chain(&[
                ("branch7x7dbl_1", inner, POINT),
                ("branch7x7dbl_2", inner, COLUMN),
                ("branch7x7dbl_3", inner, ROW),
                ("branch7x7dbl_4", inner, COLUMN),
                ("branch7x7dbl_5", 192, ROW),
            ]),
            self.pooled(Pool::Average, 192),
        ])
    }

    /// `Mixed_7a`: to 8 x 8 pixels.
    pub(crate) fn block_d(&self) -> Block<ConvolutionPlan> {
        Block(vec![
            self.halving_chain(&[("branch3x3_1", 192, POINT), ("branch3x3_2", 320, SQUARE)]),
            self.halving_chain(&[
                ("branch7x7x3_1", 192, POINT),
                ("branch7x7x3_2", 192, ROW),
                ("branch7x7x3_3", 192, COLUMN),
                ("branch7x7x3_4", 192, SQUARE),
            ]),
            Chain::Pooled(Pool::Halving, None),
        ])
    }

    /// `Mixed_7b`: 8 x 8 pixels.
    pub(crate) fn block_e(&self) -> Block<ConvolutionPlan> {
        self.last_block(Pool::Average)
    }

    /// `Mixed_7c`, which takes a maximum: the network of 2015 does, and every published FID with it.
    pub(crate) fn block_e_with_maximum(&self) -> Block<ConvolutionPlan> {
        self.last_block(Pool::Maximum)
    }

    fn last_block(&self, pool: Pool) -> Block<ConvolutionPlan> {
        let fork = |name: &str| {
            let of = |part: &str, kernel| {
                self.one(384, (&format!("{name}{part}"), 384, kernel), Steps::Same)
            };
            [of("a", [1, 3]), of("b", [3, 1])]
        };
        let single = self.links(&[("branch3x3_1", 384, POINT)], Steps::Same);
        let double = [
            ("branch3x3dbl_1", 448, POINT),
            ("branch3x3dbl_2", 384, SQUARE),
        ];
        let double = self.links(&double, Steps::Same);
        Block(vec![
            self.chain(&[("branch1x1", 320, POINT)]),
            Chain::Forked(single, fork("branch3x3_2")),
            Chain::Forked(double, fork("branch3x3dbl_3")),
            self.pooled(pool, 192),
        ])
    }
}
