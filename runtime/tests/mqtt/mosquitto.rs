//! A real broker of a test: a mosquitto with a folder and a port of its own.

use std::{
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

/// A running mosquitto.
pub(crate) struct Broker {
    child: Option<Child>,
    pub(crate) port: u16,
    folder: TempDir,
}

impl Broker {
    /// Starts a broker that keeps its sessions over a restart. `acl` are lines of its access list; without any,
    /// everybody may do everything. `user root` matters only where root runs the test: the broker would drop its rights
    /// and then not be able to write into the folder.
    pub(crate) fn start(acl: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = TcpListener::bind("127.0.0.1:0")
            .expect("a port")
            .local_addr()
            .expect("its address")
            .port();
        let place = folder.path().display();
        let mut config = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {place}/\n\
             max_queued_messages 0\nmax_inflight_messages 1000\nuser root\n"
        );
        if !acl.is_empty() {
            std::fs::write(folder.path().join("acl"), acl).expect("written");
            config.push_str(&format!("acl_file {place}/acl\n"));
        }
        std::fs::write(folder.path().join("mosquitto.conf"), config).expect("written");
        let mut broker = Self {
            child: None,
            port,
            folder,
        };
        broker.restart();
        broker
    }

    /// Starts it again on the same port with the sessions it had.
    pub(crate) fn restart(&mut self) {
        let program = if Path::new("/usr/sbin/mosquitto").exists() {
            "/usr/sbin/mosquitto"
        } else {
            "mosquitto"
        };
        let child = Command::new(program)
            .arg("-c")
            .arg(self.folder.path().join("mosquitto.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto starts (./dev test installs it)");
        self.child = Some(child);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            std::thread::yield_now();
        }
    }

    /// Ends it as an operator would, so that it writes its sessions down.
    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let asked = Command::new("kill")
                .arg(child.id().to_string())
                .status()
                .expect("kill runs");
            assert!(asked.success());
            child.wait().expect("reaped");
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // A test that failed leaves no process behind.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
