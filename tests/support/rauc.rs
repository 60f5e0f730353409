//! RAUC for tests: keys, bundles made by the real `rauc bundle`, and a real `rauc service` with two slots that are files.
//!
//! The boot loader is a script that keeps the next slot and the slots' states in files; it can be told to wait, so that an
//! installation stands still at a known place. The service has a mount and a process namespace of its own: when it dies,
//! however it dies, no mount and no process is left. Mounting needs root.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub)]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

/// RAUC's name on the bus.
pub const NAME: &str = "de.pengutronix.rauc";

/// Somebody who signs bundles, with the authority that vouches for them.
pub struct Signer {
    folder: tempfile::TempDir,
}

impl Signer {
    pub fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.distinguished_name.push(DnType::CommonName, format!("{name} CA"));
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        std::fs::write(folder.path().join("ca.pem"), ca.self_signed(&ca_key).unwrap().pem()).unwrap();

        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // RAUC looks at a signer as at one of e-mail.
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::EmailProtection];
        let certificate = params.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
        std::fs::write(folder.path().join("cert.pem"), certificate.pem()).unwrap();
        std::fs::write(folder.path().join("key.pem"), key.serialize_pem()).unwrap();
        Self { folder }
    }

    /// What belongs into a host's keyring so that it trusts this signer.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    pub fn cert_file(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    pub fn key_file(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }

    /// Makes a bundle with one image for the slot class `rootfs`.
    pub fn bundle(&self, recipe: &Recipe<'_>, to: &Path) {
        let folder = tempfile::tempdir_in(to.parent().unwrap()).unwrap();
        let image = folder.path().join("rootfs.img");
        if std::fs::hard_link(recipe.image, &image).is_err() {
            std::fs::copy(recipe.image, &image).unwrap();
        }
        let manifest = format!(
            "[update]\ncompatible={}\nversion={}\n[bundle]\nformat={}\n[image.rootfs]\nfilename=rootfs.img\n",
            recipe.compatible, recipe.version, recipe.format
        );
        std::fs::write(folder.path().join("manifest.raucm"), manifest).unwrap();
        let made = Command::new("rauc")
            .arg(format!("--cert={}", self.cert_file().display()))
            .arg(format!("--key={}", self.key_file().display()))
            .arg("bundle")
            .args([folder.path(), to])
            .output()
            .expect("rauc is installed (Debian package rauc)");
        assert!(
            made.status.success(),
            "rauc bundle: {}",
            String::from_utf8_lossy(&made.stderr)
        );
    }
}

/// What a bundle is made of.
pub struct Recipe<'a> {
    pub compatible: &'a str,
    pub version: &'a str,
    /// `plain` or `verity`; a host without device mapper (a container) takes only `plain`.
    pub format: &'a str,
    pub image: &'a Path,
}

/// What is special about a host.
#[derive(Clone, Copy, Default)]
pub struct Special<'a> {
    /// More lines for the section `[system]`.
    pub system: &'a str,
    /// The slots share a file system of so many KiB.
    pub small_slots: Option<u32>,
    /// RAUC finds no program but these and itself.
    pub programs: Option<&'a [&'a str]>,
    /// What RAUC runs in a shell after an installation.
    pub post_install: Option<&'a str>,
}

/// A folder with RAUC's configuration, its slots `rootfs.0` (A) and `rootfs.1` (B), and its running service.
pub struct RaucHost {
    folder: tempfile::TempDir,
    service: Option<Child>,
    address: String,
    small_slots: Option<u32>,
}

/// What RAUC asks this host to be compatible with.
pub const COMPATIBLE: &str = "test-gateway";

impl RaucHost {
    /// Lays out the host, booted from slot A, and starts RAUC on the bus at `address`. It is there once its name is.
    pub fn start(address: &str, keyring: &Path, special: Special<'_>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["mount", "slots", "boot"] {
            std::fs::create_dir(path(name)).unwrap();
        }
        let backend = path("backend");
        program(&backend, &BACKEND.replace("BOOT", path("boot").to_str().unwrap()));
        let handler = special.post_install.map(|text| {
            let handler = path("post-install");
            program(&handler, &format!("#!/bin/sh\n{text}\n"));
            format!("post-install={}\n", handler.display())
        });
        let slots = path("slots");
        let config = format!(
            "[system]\ncompatible={COMPATIBLE}\nbootloader=custom\nmountprefix={mount}\nstatusfile={status}\n{system}\n\
             [handlers]\nbootloader-custom-backend={backend}\n{handler}\
             [keyring]\npath={keyring}\n\
             [slot.rootfs.0]\ndevice={slots}/A.img\ntype=raw\nbootname=A\n\
             [slot.rootfs.1]\ndevice={slots}/B.img\ntype=raw\nbootname=B\n",
            mount = path("mount").display(),
            status = path("status").display(),
            system = special.system,
            backend = backend.display(),
            handler = handler.unwrap_or_default(),
            keyring = keyring.display(),
            slots = slots.display(),
        );
        std::fs::write(path("system.conf"), config).unwrap();
        for slot in ["A", "B"] {
            std::fs::write(slots.join(format!("{slot}.img")), "").unwrap();
        }
        if let Some(programs) = special.programs {
            std::fs::create_dir(path("bin")).unwrap();
            for program in programs.iter().chain(&["rauc", "sh"]) {
                std::os::unix::fs::symlink(Path::new("/usr/bin").join(program), path("bin").join(program)).unwrap();
            }
        }
        let mut host = Self {
            folder,
            service: None,
            address: address.to_owned(),
            small_slots: special.small_slots,
        };
        host.run();
        host
    }

    /// Starts RAUC, once more after [`RaucHost::kill`].
    pub fn run(&mut self) {
        let slots = self.folder.path().join("slots");
        let small = match self.small_slots {
            Some(size) => format!(
                "mount -t tmpfs -o size={size}k slots {slots} && touch {slots}/A.img {slots}/B.img && ",
                slots = slots.display()
            ),
            None => String::new(),
        };
        let bin = self.folder.path().join("bin");
        let only = if bin.exists() {
            format!("PATH={} && ", bin.display())
        } else {
            String::new()
        };
        let service = Command::new("unshare")
            .args([
                "--mount",
                "--propagation",
                "private",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
            ])
            .args(["sh", "-c", &format!("{small}{only}exec rauc \"$@\""), "sh"])
            .args(["service", "--override-boot-slot=A", "--conf"])
            .arg(self.folder.path().join("system.conf"))
            .env("DBUS_SYSTEM_BUS_ADDRESS", &self.address)
            .stdout(Stdio::null())
            .stderr(File::create(self.folder.path().join("log")).unwrap())
            .spawn()
            .expect("unshare is installed (Debian package util-linux)");
        self.service = Some(service);
    }

    /// SIGKILL, with everything that RAUC has started.
    pub fn kill(&mut self) {
        if let Some(mut service) = self.service.take() {
            service.kill().unwrap();
            service.wait().unwrap();
        }
    }

    /// A place for bundles that RAUC can read.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What is written in a slot, `A` or `B`.
    pub fn slot(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.folder.path().join("slots").join(format!("{name}.img"))).unwrap()
    }

    /// What the boot loader has: `primary`, `state.A`, `state.B`. Empty as long as RAUC has not written it.
    pub fn boot(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.folder.path().join("boot").join(name));
        text.unwrap_or_default().trim().to_owned()
    }

    /// Says what the boot loader has.
    pub fn set_boot(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join("boot").join(name), text).unwrap();
    }

    /// Holds the boot loader at its next `command` (`set-primary`: the image is written, and not yet the next to boot).
    pub fn hold(&self, command: &str) -> Hold {
        let fifo = self.folder.path().join("boot").join(format!("hold.{command}"));
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        Hold { fifo }
    }

    /// What RAUC has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

/// Makes a program of this text. A process of its own writes it: a file that this one has open for writing cannot be run
/// by its children.
fn program(to: &Path, text: &str) {
    let mut install = Command::new("install")
        .args(["-m", "755", "/dev/stdin"])
        .arg(to)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut install.stdin.take().unwrap(), text.as_bytes()).unwrap();
    assert!(install.wait().unwrap().success());
}

impl Drop for RaucHost {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A boot loader that waits for us.
pub struct Hold {
    fifo: PathBuf,
}

/// A boot loader that is waiting; it goes on when this is dropped.
pub struct Held {
    _open: File,
}

impl Hold {
    /// Returns when the boot loader has come to the place.
    pub async fn reached(self) -> Held {
        let open = tokio::task::spawn_blocking(move || {
            let open = File::options().write(true).open(&self.fifo).unwrap();
            std::fs::remove_file(&self.fifo).unwrap();
            open
        });
        Held {
            _open: open.await.unwrap(),
        }
    }
}

/// RAUC's custom boot loader backend. `deaf`: it says yes and keeps nothing, like an environment that cannot be written.
const BACKEND: &str = r#"#!/bin/sh
d='BOOT'
if [ -p "$d/hold.$1" ]; then read _ < "$d/hold.$1"; fi
case $1 in
  set-*) if [ -e "$d/deaf" ]; then exit 0; fi ;;
esac
case $1 in
  get-primary) cat "$d/primary" 2>/dev/null || echo A ;;
  set-primary) echo "$2" > "$d/primary"; echo good > "$d/state.$2" ;;
  get-state)   cat "$d/state.$2" 2>/dev/null || echo good ;;
  set-state)   echo "$3" > "$d/state.$2" ;;
  get-current) echo A ;;
  *) exit 1 ;;
esac
"#;
