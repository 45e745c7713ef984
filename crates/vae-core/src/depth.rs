//! The four depths of the experiment.

/// A depth preset: how many identity blocks follow the first block of each of the four stages.
///
/// The number counts the block convolutions of the main paths, the dense layer and head of the encoder, and the dense
/// layer and output convolution of the decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Depth {
    /// No identity block.
    Depth28,
    /// Two on each side.
    Depth40,
    /// Seven on each side.
    Depth70,
    /// Twelve on each side.
    Depth100,
}

impl Depth {
    /// From shallow to deep.
    pub const ALL: [Depth; 4] = [
        Depth::Depth28,
        Depth::Depth40,
        Depth::Depth70,
        Depth::Depth100,
    ];

    /// The preset with that many layers, if there is one.
    pub fn from_layers(layers: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|depth| depth.layers() == layers)
    }

    /// The number of layers.
    pub fn layers(self) -> u32 {
        match self {
            Depth::Depth28 => 28,
            Depth::Depth40 => 40,
            Depth::Depth70 => 70,
            Depth::Depth100 => 100,
        }
    }

    /// Identity blocks after the first block of each stage.
    pub fn identity_blocks(self) -> [usize; 4] {
        match self {
            Depth::Depth28 => [0, 0, 0, 0],
            Depth::Depth40 => [0, 1, 1, 0],
            Depth::Depth70 => [1, 2, 3, 1],
            Depth::Depth100 => [2, 3, 5, 2],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_follow_from_the_block_table() {
        for depth in Depth::ALL {
            let blocks = 4 + depth.identity_blocks().iter().sum::<usize>();
            // Three convolutions a block on both sides, and four layers around them.
            assert_eq!(depth.layers() as usize, 2 * 3 * blocks + 4);
            assert_eq!(Depth::from_layers(depth.layers()), Some(depth));
        }
        assert_eq!(Depth::from_layers(50), None);
    }
}
