//! Debian machines with packages: the ones that `debian/` builds, small ones of the tests' own, and
//! QEMU's.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, Mutex};

use crate::machine::Machine;
use crate::{kept, run, sources};

/// A release of Debian, and what it has.
pub struct Release {
    /// Its dpkg and its libvirt, for the names of the tests.
    pub dpkg: &'static str,
    pub libvirt: &'static str,
    pub suite: &'static str,
    /// A package with modules that bring QEMU devices, and one of those.
    pub devices: &'static str,
    pub device: &'static str,
}

pub const RELEASES: [Release; 2] = [
    Release {
        dpkg: "dpkg_1_21",
        libvirt: "libvirt_9_0",
        suite: "bookworm",
        devices: "qemu-system-gui",
        device: "virtio-gpu-gl-device",
    },
    Release {
        dpkg: "dpkg_1_22",
        libvirt: "libvirt_11_3",
        suite: "trixie",
        devices: "qemu-system-modules-spice",
        device: "qxl",
    },
];

impl Release {
    /// What a machine with QEMU is made of: all of it brings modules.
    pub fn qemu(&self) -> Vec<&'static str> {
        vec!["qemu-system-x86", BLOCK, self.devices]
    }

    /// What a machine is made of on which packages are built and looked at. It has QEMU, too.
    pub fn builder(&self) -> Vec<&'static str> {
        // autopkgtest(1) wants apt-utils to tell apt of packages.
        let tools = [
            "apt-utils",
            "build-essential",
            "debhelper",
            "lintian",
            "pkg-config",
            "python3",
        ];
        [&tools[..], &self.qemu()].concat()
    }
}

/// What brings the block drivers that QEMU has in modules.
pub const BLOCK: &str = "qemu-block-extra";

/// What making such machines and packages takes.
pub const PROGRAMS: [&str; 15] = [
    "cargo",
    "chroot",
    "dh",
    "dh_python3",
    "dpkg",
    "dpkg-architecture",
    "dpkg-buildpackage",
    "dpkg-deb",
    "dpkg-scanpackages",
    "flock",
    "git",
    "mmdebstrap",
    "mount",
    "timeout",
    "unshare",
];

/// Where Debian's QEMU has its modules.
pub static MODULES: LazyLock<String> = LazyLock::new(|| {
    let query = run(Command::new("dpkg-architecture").arg("-qDEB_HOST_MULTIARCH"));
    format!("/usr/lib/{}/qemu", query.trim())
});

/// The path of a module.
pub fn module(name: &str) -> String {
    format!("{}/{name}", *MODULES)
}

/// The module that brings QXL.
pub const QXL: &str = "hw-display-qxl.so";

/// What a package of the tests' own says that takes over modules of Debian's.
pub const REPLACES: &str = "Replaces: qemu-system-common, qemu-system-gui, qemu-system-modules-opengl, \
    qemu-system-modules-spice\n";

/// The packages that `debian/` builds.
static BUILT: LazyLock<PathBuf> = LazyLock::new(build);

/// Builds `debian/` from a copy of the project's files, once for each state of them. Returns the
/// directory with the packages.
fn build() -> PathBuf {
    let script = r#"
        kept=$1
        directory=$kept/dpkg-build
        sources() {
            git -c safe.directory='*' ls-files -z --cached --others --exclude-standard |
                while IFS= read -r -d '' file; do
                    if [ -e "$file" ]; then printf '%s\0' "$file"; fi
                done
        }
        # What the tests are makes no difference to the packages.
        state=$( (rustc -V; dpkg-architecture; sources | grep -zv '^\(tests\|benches\)/' | xargs -0 sha256sum) |
            sha256sum | cut -c -16)
        packages=$kept/dpkg-built-$state
        echo "$packages"
        if [ -e "$packages" ]; then exit; fi

        exec >&2
        find "$kept" -mindepth 1 -maxdepth 1 -name 'dpkg-built-*' -mmin +600 -exec rm -r {} +
        # Always the same path, so that cargo finds what it built before; seen by this program alone, and gone with it.
        mkdir -p "$directory"
        mount -t tmpfs -o mode=755 tmpfs "$directory"
        mkdir "$directory/modstamp"
        sources | xargs -0 cp --parents --preserve=mode --target-directory="$directory/modstamp"
        cd "$directory/modstamp"
        # -d: cargo need not be Debian's. -nc: there is nothing to clean but what cargo has kept. -F: the source, too.
        # nocheck: the library's own tests are run by themselves.
        DEB_BUILD_OPTIONS=nocheck CARGO_TARGET_DIR=$kept/dpkg-target dpkg-buildpackage -d -nc -F -us -uc
        rm -rf "$packages.new"
        mkdir "$packages.new"
        cp "$directory"/modstamp_* "$directory"/*.deb "$packages.new"
        mv "$packages.new" "$packages"
    "#;
    let printed = run(Command::new("flock")
        .arg(kept().join("dpkg-build.lock"))
        .args(["bash", "-euo", "pipefail", "-c", script, "bash"])
        .arg(kept())
        .current_dir(sources())
        .env_remove("MAKEFLAGS")
        .env_remove("MFLAGS")
        .env_remove("RUSTFLAGS"));
    PathBuf::from(printed.trim_end())
}

/// All that the build of the packages left: they, the source and what an archive is told of both.
pub fn all_built() -> Vec<PathBuf> {
    let files = std::fs::read_dir(&*BUILT).unwrap();
    files.map(|file| file.unwrap().path()).collect()
}

/// The package `name` as it was built.
pub fn built(name: &str) -> PathBuf {
    let mut paths = all_built().into_iter();
    let is_it = |path: &PathBuf| {
        let file = path.file_name().unwrap().to_string_lossy();
        file.starts_with(&format!("{name}_")) && file.ends_with(".deb")
    };
    paths
        .find(is_it)
        .unwrap_or_else(|| panic!("no package {name} was built"))
}

/// A package of the tests' own.
#[derive(Default)]
pub struct Package<'a> {
    pub name: &'a str,
    pub version: &'a str,
    /// Files with a content that is this package's own.
    pub files: &'a [&'a str],
    /// Further files, and their contents.
    pub contents: &'a [(&'a str, &'a str)],
    /// Files as the machine has them now.
    pub copies: &'a [&'a str],
    /// Further lines of the control file.
    pub fields: &'a str,
    /// A script's name and text.
    pub script: Option<(&'a str, &'a str)>,
}

/// A machine of Debian's.
pub struct Host {
    pub release: &'static Release,
    pub machine: Machine,
}

impl Host {
    /// A machine with modstamp and modstamp-qemu.
    pub fn new(release: &'static Release, packages: &[&str]) -> Host {
        let host = Host::bare(release, packages);
        host.install_modstamp();
        host
    }

    /// A machine that knows nothing of modstamp.
    pub fn bare(release: &'static Release, packages: &[&str]) -> Host {
        let machine = Machine::new(release.suite, packages);
        Host { release, machine }
    }

    pub fn install_modstamp(&self) {
        self.install_built(&["modstamp", "modstamp-qemu"]);
    }

    /// Installs packages that `debian/` builds.
    pub fn install_built(&self, names: &[&str]) {
        let mut inside = String::new();
        for name in names {
            let path = format!("/srv/{name}.deb");
            self.machine.put(&built(name), &path);
            inside += &format!(" {path}");
        }
        self.dpkg(&format!("--install{inside}"));
    }

    /// A package that `debian/` builds, as one of another version; returns its path in the machine.
    pub fn rebuilt(&self, name: &str, version: &str) -> String {
        let scratch = tempfile::tempdir().unwrap();
        let tree = scratch.path().join("tree");
        run(Command::new("dpkg-deb")
            .args(["--raw-extract".as_ref(), built(name).as_os_str()])
            .arg(&tree));
        // Of the packages that are built together, some depend on others of the very version.
        let (own, other) = (env!("CARGO_PKG_VERSION"), version);
        run(Command::new("sed")
            .args([
                "-i",
                &format!("s/^Version: {own}/Version: {other}/; s/(= {own})/(= {other})/g"),
            ])
            .arg(tree.join("DEBIAN/control")));
        self.pack(&tree, &format!("{name}_{version}"))
    }

    /// Runs a script in the machine, and returns its output, errors included. A script that takes
    /// four minutes is stuck, and is ended.
    pub fn sh(&self, script: &str) -> String {
        let script = format!("exec 2>&1\n{script}");
        let mut command = self.machine.command("timeout");
        run(command.args(["240", "/bin/sh", "-ec", &script]))
    }

    /// Runs dpkg in the machine, which must succeed; returns what it printed.
    pub fn dpkg(&self, arguments: &str) -> String {
        self.sh(&format!("dpkg {arguments}"))
    }

    /// The path, from outside, of `path` in the machine.
    pub fn outside(&self, path: &str) -> PathBuf {
        self.machine.root.join(path.trim_start_matches('/'))
    }

    /// Builds a package with these files, each with a content that is its own; returns its path in
    /// the machine.
    pub fn package(&self, name: &str, version: &str, files: &[&str]) -> String {
        self.build(&Package {
            name,
            version,
            files,
            ..Package::default()
        })
    }

    /// Builds a package; returns its path in the machine.
    pub fn build(&self, package: &Package) -> String {
        let Package { name, version, .. } = package;
        let tree = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = tree.path().join(path.trim_start_matches('/'));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        for file in package.files {
            write(file, &format!("{file} of {name} {version}\n"));
        }
        for (file, content) in package.contents {
            write(file, content);
        }
        for file in package.copies {
            write(file, "");
            let inside = tree.path().join(file.trim_start_matches('/'));
            std::fs::copy(self.outside(file), inside).unwrap();
        }
        let fields = package.fields;
        write(
            "DEBIAN/control",
            &format!(
                "Package: {name}\nVersion: {version}\nArchitecture: all\n{fields}\
                 Maintainer: Nobody <nobody@example.org>\nDescription: a test's own package\n"
            ),
        );
        if let Some((script, text)) = package.script {
            write(&format!("DEBIAN/{script}"), text);
        }
        self.pack(tree.path(), &format!("{name}_{version}"))
    }

    /// The module that brings QXL as a package of its own; returns its path in the machine.
    pub fn qxl(&self) -> String {
        self.build(&Package {
            name: "qxl",
            version: "1",
            copies: &[&module(QXL)],
            fields: REPLACES,
            ..Package::default()
        })
    }

    /// Packs a directory as a package; returns its path in the machine.
    pub fn pack(&self, tree: &Path, name: &str) -> String {
        let inside = format!("/srv/{name}.deb");
        run(Command::new("chmod").args(["-R", "0755"]).arg(tree));
        run(Command::new("dpkg-deb")
            .args(["--root-owner-group", "-Znone", "--build"])
            .args([tree, &self.outside(&inside)]));
        inside
    }

    /// dpkg finds nothing half done, and no file that is not as it was packed.
    pub fn is_well(&self) {
        assert_eq!(self.dpkg("--audit"), "");
        assert_eq!(self.dpkg("--verify"), "");
    }
}

/// Debian's own packages of QEMU's modules, as a repository that is fetched once, so that tests
/// need no network.
fn repository(host: &Host) -> PathBuf {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock();
    let Release { suite, devices, .. } = host.release;
    let version = host.sh("dpkg-query --show --showformat '${Version}' qemu-system-x86");
    let kept = kept().join(format!("{suite}-qemu-{}", version.replace(':', "_")));
    if kept.exists() {
        return kept;
    }
    let machine = Machine::new(suite, &host.release.qemu());
    machine.sh(&format!(
        "apt-get -qq update
         apt-get -qq remove {BLOCK} {devices}
         apt-get -qq install --download-only --no-install-recommends {BLOCK} {devices}"
    ));
    let script = r#"
        rm -rf "$2.new"
        mkdir "$2.new"
        cp "$1"/*.deb "$2.new"
        cd "$2.new"
        dpkg-scanpackages --multiversion . > Packages
        mv "$2.new" "$2"
    "#;
    let archives = machine.root.join("var/cache/apt/archives");
    run(Command::new("sh")
        .args(["-ec", script, "sh"])
        .args([&archives, &kept]));
    kept
}

/// Makes Debian's own packages of QEMU's modules the only ones that apt knows.
pub fn add_repository(host: &Host) {
    for file in std::fs::read_dir(repository(host)).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        host.machine.put(&path, &format!("/srv/repository/{name}"));
    }
    host.sh("rm -f /etc/apt/sources.list.d/*
         echo 'deb [trusted=yes] file:/srv/repository ./' > /etc/apt/sources.list
         apt-get -q update");
}
