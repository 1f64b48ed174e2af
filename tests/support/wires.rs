//! The wires between the nodes of a cluster: a proxy in front of each node's cluster port that can be cut in each
//! direction.
//!
//! Bytes of a direction that is cut wait, as they do in a network that loses packets, until it is mended. Who has dialled
//! is found by the process that holds the other end, for it is the same machine.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
};

/// From a node to a node.
type Way = (usize, usize);

/// All wires.
#[derive(Default)]
pub(crate) struct Wires {
    cut: Mutex<BTreeSet<Way>>,
    mended: Condvar,
    /// By node, its process.
    pids: Mutex<BTreeMap<usize, u32>>,
}

impl Wires {
    /// Notes which process a node is.
    pub(crate) fn is_process(&self, node: usize, pid: u32) {
        self.pids.lock().expect("not poisoned").insert(node, pid);
    }

    /// Puts a proxy before a node's port.
    pub(crate) fn lead(self: &Arc<Self>, listener: TcpListener, to: usize, port: u16) {
        let wires = self.clone();
        std::thread::spawn(move || {
            for dialled in listener.incoming().map_while(Result::ok) {
                let wires = wires.clone();
                std::thread::spawn(move || wires.join(dialled, to, port));
            }
        });
    }

    pub(crate) fn cut(&self, ways: impl IntoIterator<Item = Way>) {
        self.cut.lock().expect("not poisoned").extend(ways);
    }

    pub(crate) fn mend(&self) {
        self.cut.lock().expect("not poisoned").clear();
        self.mended.notify_all();
    }

    fn join(&self, dialled: TcpStream, to: usize, port: u16) -> Option<()> {
        let from = self.who(dialled.peer_addr().ok()?.port())?;
        let Ok(node) = TcpStream::connect(("127.0.0.1", port)) else {
            return None;
        };
        let back = (node.try_clone().ok()?, dialled.try_clone().ok()?);
        std::thread::scope(|scope| {
            scope.spawn(|| self.pump(dialled, node, (from, to)));
            self.pump(back.0, back.1, (to, from));
        });
        Some(())
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream, way: Way) {
        let mut bytes = vec![0; 64 << 10];
        while let Ok(length @ 1..) = from.read(&mut bytes) {
            let cut = self.cut.lock().expect("not poisoned");
            drop(
                self.mended
                    .wait_while(cut, |cut| cut.contains(&way))
                    .expect("not poisoned"),
            );
            if to.write_all(&bytes[..length]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    }

    /// The node whose process has a socket at a port.
    fn who(&self, port: u16) -> Option<usize> {
        let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
        let end = format!(":{port:04X}");
        let inode = table.lines().find_map(|line| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            columns
                .get(1)?
                .ends_with(&end)
                .then(|| columns.get(9).map(|inode| (*inode).to_owned()))?
        })?;
        let socket = format!("socket:[{inode}]");
        let pids = self.pids.lock().expect("not poisoned").clone();
        pids.into_iter().find_map(|(node, pid)| {
            let files = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
            let has = |file: std::fs::DirEntry| {
                std::fs::read_link(file.path()).is_ok_and(|link| link.as_os_str() == &*socket)
            };
            files.flatten().any(has).then_some(node)
        })
    }
}
