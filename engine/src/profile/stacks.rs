//! What stacks and the blocks in them are called in reports.

use std::sync::Arc;

use offload::{BlockId, StackId};

/// The names of several stacks, in the order of their numbers. Without names they are numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StackNames(Arc<[String]>);

impl StackNames {
    pub fn new(names: Vec<String>) -> Self {
        Self(names.into())
    }

    pub fn name(&self, stack: StackId) -> Option<&str> {
        self.0.get(usize::from(stack.0)).map(String::as_str)
    }

    /// Whether there are any.
    pub fn are_there(&self) -> bool {
        !self.0.is_empty()
    }

    /// A block in a list or a lane: its layer, with the stack where there are several, and with its
    /// part if that is not the layer's trunk.
    pub(super) fn label(&self, block: BlockId, has_stacks: bool) -> String {
        let BlockId { stack, layer, part } = block;
        let stack = match (has_stacks, self.name(stack)) {
            (false, _) => String::new(),
            (true, Some(name)) => format!("{name} "),
            (true, None) => format!("{}.", stack.0),
        };
        let part = match part {
            0 => String::new(),
            part => format!("/{part}"),
        };
        format!("{stack}{layer}{part}")
    }
}

#[cfg(test)]
mod tests {
    use offload::LayerIndex;

    use super::*;

    #[test]
    fn a_stack_is_named_where_there_are_several() {
        let names = StackNames::new(vec!["base".into(), "teacher".into()]);
        let block = BlockId::new(StackId(1), LayerIndex(3));
        assert_eq!(names.label(block, true), "teacher 3");
        assert_eq!(names.label(block, false), "3");
        assert_eq!(names.label(block.part(2), true), "teacher 3/2");
        assert_eq!(StackNames::default().label(block, true), "1.3");
    }
}
