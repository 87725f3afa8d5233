//! The packages that `rpm/modstamp.spec` builds, and small ones of the tests' own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::machine::Machine;
use crate::{built, kept, run};

/// What making them takes.
pub const PROGRAMS: [&str; 13] = [
    "cargo",
    "chroot",
    "flock",
    "git",
    "make",
    "mmdebstrap",
    "mount",
    "python3",
    "rpm",
    "rpmbuild",
    "strace",
    "timeout",
    "unshare",
];

/// Where the packages find QEMU's modules.
pub const MODULES: &str = "/usr/lib64/qemu";

/// Where machines have the packages.
pub const PACKAGES: &str = "/srv";

/// Puts the packages that the spec builds into a machine, and tells its rpm where to keep its
/// database.
pub fn put(machine: &Machine) {
    for entry in std::fs::read_dir(built()).unwrap() {
        let name = entry.as_ref().unwrap().file_name().into_string().unwrap();
        machine.put(&entry.unwrap().path(), &format!("{PACKAGES}/{name}"));
    }
    // Where rpm keeps it elsewhere than on Debian, which asks a shell for the user's home.
    machine.sh("mkdir -p /etc/rpm; echo '%_dbpath /var/lib/rpm' > /etc/rpm/macros.tests");
}

/// The directory of the packages that the spec builds, made once for each state of the source tree.
pub fn built() -> &'static Path {
    // The error is kept too, so that not every test tries again.
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(build);
    built
        .as_ref()
        .unwrap_or_else(|error| panic!("the packages cannot be built: {error}"))
}

fn build() -> Result<PathBuf, String> {
    let script = r#"
        # What the tests are makes no difference to the packages.
        state=$( (rustc -V; rpmbuild --version; git ls-tree "$tree" | grep -v '	\(tests\|benches\)$') |
            sha256sum | cut -c -16)
        build=$kept/built-$state
        if test -e "$build/done"; then
            echo "$build"
            exit
        fi

        find "$kept" -mindepth 1 -maxdepth 1 -name '*-*' -mmin +600 -exec rm -r {} +
        rm -rf "$kept/top" "$build"
        mkdir -p "$kept/top" "$build"
        exec 3>&1 >"$kept/log" 2>&1
        make dist TREE="$tree" DISTDIR="$kept/top"
        unset GIT_ALTERNATE_OBJECT_DIRECTORIES GIT_OBJECT_DIRECTORY GIT_INDEX_FILE
        # --nodeps: what it needs is here, but not as packages of rpm's. systemd's macros are not, and what compresses
        # manual pages takes Debian's sh for bash. The machines have a C library, too, but no package of rpm's with it.
        # --without check: the library's own tests are run by themselves.
        rpmbuild() {
            command rpmbuild "$@" --nodeps --without check --define "_topdir $kept/top" \
                --define "_rpmdir $build" --define "_srcrpmdir $build" \
                --define '_libdir /usr/lib64' --define '_tmpfilesdir /usr/lib/tmpfiles.d' \
                --define '_unitdir /usr/lib/systemd/system' --define '_presetdir /usr/lib/systemd/system-preset' \
                --define '_userunitdir /usr/lib/systemd/user' --define '_userpresetdir /usr/lib/systemd/user-preset' \
                --define '__requires_exclude ^(lib(c|gcc_s)[.]so[.]|ld-linux|rtld[(])' \
                --define '__os_install_post bash %{_rpmconfigdir}/brp-compress' \
                --define '_rpmfilename %%{NAME}-%%{RELEASE}.rpm' "$kept"/top/*.tar.gz
        }
        export CARGO_TARGET_DIR=$kept/target
        rpmbuild -ta
        # The second time as openSUSE names the packages.
        rpmbuild -tb --define 'dist .again' --define 'suse_version 1600'
        touch "$build/done"
        echo "$build" >&3
    "#;
    built::of_working_tree("rpm", script)
}

/// A package of the tests' own.
#[derive(Default)]
pub struct Package<'a> {
    pub name: &'a str,
    pub version: &'a str,
    /// Paths and contents.
    pub files: &'a [(&'a str, &'a str)],
    /// Further tags of the spec, one a line.
    pub tags: &'a str,
    /// Further lines of the section %install.
    pub install: &'a str,
    /// Further lines of the section %files, and further sections.
    pub sections: &'a str,
}

impl Package<'_> {
    /// Builds the package, unless it was built before. Returns the file.
    pub fn build(&self) -> PathBuf {
        let Package {
            name,
            version,
            tags,
            install,
            sections,
            ..
        } = self;
        let mut making = String::new();
        let mut list = String::new();
        let directory = |(path, _): &(&str, _)| path.rsplit_once('/').unwrap().0.to_owned();
        let directories: BTreeSet<String> = self.files.iter().map(directory).collect();
        for directory in directories {
            making += &format!("mkdir -p %{{buildroot}}{directory}\n");
        }
        // By the shell itself, so that thousands take no time.
        for (path, content) in self.files {
            making += &format!("echo '{content}' > %{{buildroot}}{path}\n");
            list += &format!("{path}\n");
        }
        let spec = format!(
            "Name: {name}\nVersion: {version}\nRelease: 1\nSummary: A test's own package\nLicense: none\n\
             BuildArch: noarch\nAutoReqProv: no\n{tags}\n%description\nA test's own package.\n\
             %global __os_install_post %{{nil}}\n\
             %prep\n%install\n{making}{install}\n%files\n{list}{sections}\n"
        );
        let kept = kept().join("rpm-packages");
        std::fs::create_dir_all(&kept).unwrap();
        let file = kept.join(format!("{}.rpm", blake3::hash(spec.as_bytes()).to_hex()));
        if !file.exists() {
            let top = tempfile::tempdir().unwrap();
            let spec_file = top.path().join("test.spec");
            std::fs::write(&spec_file, spec).unwrap();
            run(Command::new("rpmbuild")
                .args(["-bb", "--quiet", "--define", "_rpmfilename built.rpm"])
                .args(["--define", "_buildshell /bin/bash"])
                .args(["--define", &format!("_topdir {}", top.path().display())])
                .arg(&spec_file));
            // Whole or not at all, even if two tests build it at once.
            let own = kept.join(top.path().file_name().unwrap());
            std::fs::copy(top.path().join("RPMS/built.rpm"), &own).unwrap();
            std::fs::rename(own, &file).unwrap();
        }
        file
    }
}
