//! Appends nodes under names that say where they belong.
use super::{ModelGraph, Node, Op, Part};
use crate::Result;

pub(super) struct Builder {
    pub(super) nodes: Vec<Node>,
    pub(super) part: Part,
    pub(super) block: Option<u32>,
    pub(super) task: Option<u32>,
    /// Prefix of the names, without the dot; empty for none.
    pub(super) scope: String,
}

impl Builder {
    pub(super) fn new(part: Part) -> Self {
        Self { nodes: Vec::new(), part, block: None, task: None, scope: String::new() }
    }

    /// Names and numbers what follows as encoder block `block`.
    pub(super) fn enter(&mut self, block: u32) {
        self.block = Some(block);
        self.scope = format!("blk.{block}");
    }

    /// Leaves the encoder blocks.
    pub(super) fn leave(&mut self, part: Part) {
        self.block = None;
        self.part = part;
        self.scope.clear();
    }

    pub(super) fn push(&mut self, name: &str, inputs: &[usize], op: Op) -> usize {
        let name = if self.scope.is_empty() { name.to_owned() } else { format!("{}.{name}", self.scope) };
        let mut node = Node::new(name, self.part, inputs, op);
        node.block = self.block;
        node.task = self.task;
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Changes the node that was pushed last.
    pub(super) fn last(&mut self, change: impl FnOnce(&mut Node)) {
        if let Some(node) = self.nodes.last_mut() {
            change(node);
        }
    }

    pub(super) fn finish(self, name: &str) -> Result<ModelGraph> {
        let graph = ModelGraph { name: name.to_owned(), nodes: self.nodes };
        graph.validate()?;
        Ok(graph)
    }
}
