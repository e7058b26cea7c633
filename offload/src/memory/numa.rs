//! Which of a machine's memories is near a device. A machine with several sockets has memory at
//! each of them; a copy from the far one crosses the bus between the sockets as well, and may take
//! twice as long. Where the system says which node a device hangs on, host memory that it copies
//! from is asked for there. Elsewhere there is nothing to choose, and nothing is done or said.

mod pages;

use std::fmt;
use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;

/// A node of host memory, where there are others beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NumaNode(u32);

/// More than systems are built for.
const NODE_MAX: u32 = 1023;

/// The least share of a stretch that counts as all of it: strays of memory that was used before.
const NEARLY_ALL: f64 = 0.995;

impl NumaNode {
    /// The node of a PCI device, by its address, like "0000:3b:00.0".
    pub fn of_pci(address: &str) -> Option<Self> {
        Self::found(Path::new("/sys"), address)
    }

    fn found(system: &Path, address: &str) -> Option<Self> {
        let read = |file: &str| fs::read_to_string(system.join(file)).ok();
        let with_memory = nodes(&read("devices/system/node/has_memory")?)?;
        // -1 where the firmware does not say.
        let node = read(&format!("bus/pci/devices/{address}/numa_node"))?;
        let node = node.trim().parse().ok()?;
        let several = with_memory.iter().flat_map(RangeInclusive::clone).nth(1);
        several?;
        let has_memory = with_memory.iter().any(|range| range.contains(&node));
        has_memory.then_some(Self(node))
    }

    /// Its number in this system.
    pub fn index(self) -> u32 {
        self.0
    }

    /// Asks that the pages of `memory` be there: those that are touched from now on, and as far as
    /// the system can move them, those that were. A preference: where the node is full, or the
    /// system refuses, pages are elsewhere, and a [`NumaShare`] of them shows it.
    pub(crate) fn prefer(self, memory: &[u8]) {
        let _ = pages::prefer(self.0, memory);
    }

    /// To be told of memory that should be there.
    pub fn share(self) -> NumaShare {
        NumaShare {
            node: self,
            there: 0,
            seen: 0,
        }
    }
}

/// How much of some memory is on the node that it was asked for on: a look at pages spread over it.
#[derive(Debug)]
pub struct NumaShare {
    node: NumaNode,
    there: usize,
    seen: usize,
}

impl NumaShare {
    pub fn add(&mut self, memory: &[u8]) {
        // Where the system does not tell, nothing is seen.
        let nodes = pages::nodes(memory).unwrap_or_default();
        self.there += nodes.iter().filter(|&&node| node == self.node.0).count();
        self.seen += nodes.len();
    }
}

/// To follow a comma.
impl fmt::Display for NumaShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, there, seen } = self;
        let there = *there as f64 / *seen as f64;
        match there {
            _ if *seen == 0 => write!(f, "asked for on {node}"),
            NEARLY_ALL.. => write!(f, "on {node}"),
            _ => write!(f, "{:.0}% of it on {node}", (100.0 * there).floor()),
        }
    }
}

impl fmt::Display for NumaNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the GPU's NUMA node {}", self.0)
    }
}

/// The system's way to write several nodes: "0-1,4".
fn nodes(list: &str) -> Option<Vec<RangeInclusive<u32>>> {
    let number = |text: &str| text.parse().ok().filter(|&node| node <= NODE_MAX);
    let range = |text: &str| match text.split_once('-') {
        Some((first, last)) => Some(number(first)?..=number(last)?),
        None => number(text).map(|node| node..=node),
    };
    list.trim().split(',').map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GPU: &str = "0000:3b:00.0";

    fn found(has_memory: &str, numa_node: &str) -> Option<u32> {
        let system = tempfile::tempdir().unwrap();
        for (file, text) in [
            ("devices/system/node/has_memory", has_memory),
            (&format!("bus/pci/devices/{GPU}/numa_node"), numa_node),
        ] {
            let file = system.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        NumaNode::found(system.path(), GPU).map(NumaNode::index)
    }

    #[test]
    fn a_node_is_found_where_there_are_several_and_the_device_is_at_one() {
        assert_eq!(found("0-1\n", "1\n"), Some(1));
        assert_eq!(found("0-1\n", "0\n"), Some(0));
        assert_eq!(found("0,2-3,8\n", "8\n"), Some(8));
    }

    #[test]
    fn elsewhere_there_is_nothing_to_choose() {
        // One memory; a device that is at none; at one that has no memory; at none that there is.
        for (has_memory, node) in [("0", "0"), ("0-1", "-1"), ("0,2-3", "1"), ("0-1", "7")] {
            assert_eq!(found(has_memory, node), None, "{has_memory:?} {node:?}");
        }
        for unreadable in ["", "\n", "0-", "-1", "a", "0,,1", "0-4294967295"] {
            assert_eq!(found(unreadable, "0"), None, "{unreadable:?}");
            assert_eq!(found("0-1", &format!("{unreadable}x")), None);
        }
        let nothing = tempfile::tempdir().unwrap();
        assert_eq!(NumaNode::found(nothing.path(), GPU), None);
    }

    #[test]
    fn words_say_how_much_is_there() {
        let words = |there, seen| {
            let node = NumaNode(1);
            NumaShare { node, there, seen }.to_string()
        };
        assert_eq!(words(4, 4), "on the GPU's NUMA node 1");
        assert_eq!(words(999, 1000), "on the GPU's NUMA node 1");
        assert_eq!(words(639, 1000), "63% of it on the GPU's NUMA node 1");
        assert_eq!(words(0, 7), "0% of it on the GPU's NUMA node 1");
        assert_eq!(words(0, 0), "asked for on the GPU's NUMA node 1");
    }

    /// Every system with NUMA has a node 0; a second one, to tell apart what was asked for from
    /// what would have been, few have.
    #[test]
    fn pages_come_to_be_where_they_were_asked_for() {
        let memory = vec![0_u8; 9 << 20];
        if let Err(refused) = pages::prefer(0, &memory) {
            return println!("skipped: this system has no policy for memory ({refused})");
        }
        assert_eq!(pages::preferred(&memory), Some(0));
        let memory: Vec<u8> = memory.into_iter().map(|byte| byte + 1).collect();
        for (node, expected) in [(0, 5), (1, 0)] {
            let mut share = NumaNode(node).share();
            share.add(&memory);
            assert_eq!((share.there, share.seen), (expected, 5), "node {node}");
        }
    }
}
