//! Small sets as bits.

macro_rules! small_set {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u8);

        impl $name {
            pub(crate) const NONE: Self = Self(0);

            /// Whether it has this one.
            #[must_use]
            pub const fn contains(self, item: u8) -> bool {
                self.0 & (1 << item) != 0
            }

            /// Whether it has none.
            #[must_use]
            pub const fn is_empty(self) -> bool {
                self.0 == 0
            }

            pub(crate) const fn with(self, item: u8) -> Self {
                Self(self.0 | 1 << item)
            }
        }
    };
}

small_set! {
    /// A set of packs.
    Packs
}
small_set! {
    /// A set of objects.
    Objects
}

impl Packs {
    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) const fn without(self, item: u8) -> Self {
        Self(self.0 & !(1 << item))
    }
}

impl Objects {
    /// Chunk and node.
    pub(crate) const BOTH: Self = Self(0b11);

    /// The objects in it.
    pub(crate) fn each(self) -> impl Iterator<Item = usize> {
        (0..2).filter(move |object| self.0 & (1 << object) != 0)
    }

    /// Those of the two for which this is so.
    pub(crate) fn of(mut is_in: impl FnMut(usize) -> bool) -> Self {
        (0..2).filter(|object| is_in(*object)).fold(Self::default(), |set, object| Self(set.0 | 1 << object))
    }
}
