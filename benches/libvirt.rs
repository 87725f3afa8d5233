//! The measurements of libvirt: modstamp's look at its cache, and libvirt's own look-ups.

use std::path::Path;
use std::time::Duration;

use super::table::Table;
use super::timed::{Timed, measure};
use support::consumer::{self, Consumer};
use support::deb::{RELEASES, Release};
use support::run;

/// libvirt's emulators: as many as it knows.
const EMULATORS: usize = 26;

const ROUNDS: usize = 200;

pub fn libvirt(table: &mut Table) {
    let release = &RELEASES[1];
    let (without, with) = (consumer::host(release), consumer::host(release));
    with.install_modstamp();
    let mut daemons = [&without, &with].map(|host| {
        let mut daemon = Consumer::new("the bench's", true, &host.machine.root, None);
        daemon.look_up();
        assert_eq!(daemon.look_up().probes, 0, "a second look-up is a hit");
        daemon
    });
    let ask = |name, root: &Path| {
        let arguments = ["virsh", "--connect", "qemu:///system", "domcapabilities"];
        let root = [root.to_str().unwrap()];
        let arguments: Vec<&str> = root.into_iter().chain(arguments).collect();
        Timed::new(name, "chroot".as_ref(), &arguments, &None)
    };
    let roots = [&without.machine.root, &with.machine.root];
    let [bare, ours] = roots.map(|root| ask("virsh domcapabilities", root));
    let times = measure(&[&bare, &ours], ROUNDS);
    table.ratio(
        "a look-up in libvirt, beside modstamp-qemu",
        times[1],
        "the same without",
        times[0],
        "1.0",
    );
    daemons.iter_mut().for_each(Consumer::stop);
    overview(table, &with.machine.root);
    status(table, release, &with.machine.root);
}

/// modstamp's look at a whole host, with all checks of the doctor.
fn overview(table: &mut Table, root: &Path) {
    let arguments = [root.to_str().unwrap(), "modstamp", "status"];
    let status = Timed::new("modstamp status", "chroot".as_ref(), &arguments, &None);
    let time = measure(&[&status], ROUNDS)[0];
    let wanted = Duration::from_millis(100);
    let what = "modstamp status, on Debian 13 with QEMU and libvirt";
    table.ratio(what, time, "wanted", wanted, "at most 1.0");
}

/// modstamp's look at a full cache: as many files as it may have, written just now.
fn status(table: &mut Table, release: &Release, root: &Path) {
    let cache = root.join("var/cache/libvirt/qemu/capabilities");
    let sample = std::fs::read_dir(&cache).unwrap().next().unwrap().unwrap();
    let sample = std::fs::read_to_string(sample.path()).unwrap();
    let asked = "/usr/bin/qemu-system-x86_64";
    for number in 1..EMULATORS {
        let emulator = format!("/usr/bin/qemu-system-{number}");
        std::fs::copy(root.join(&asked[1..]), root.join(&emulator[1..])).unwrap();
        let name = support::libvirt::file_name(&emulator);
        std::fs::write(cache.join(name), sample.replace(asked, &emulator)).unwrap();
    }
    let modstamp = support::release("modstamp");
    let root = root.to_str().unwrap();
    run(std::process::Command::new(&modstamp).args(["libvirt", "refresh", "--root", root]));
    let arguments = ["libvirt", "status", "--profile", "qemu", "--root", root];
    let status = Timed::new("modstamp libvirt status", &modstamp, &arguments, &None);
    let said = String::from_utf8(status.output()).unwrap();
    // A line below the table tells what follows from what is stale.
    let rows = said.lines().filter(|line| !line.starts_with("stale: "));
    assert_eq!(rows.count(), EMULATORS + 1, "a head and a row each: {said}");
    let time = measure(&[&status], ROUNDS)[0];
    let kilobytes = sample.len() / 1000;
    let wanted = Duration::from_millis(30);
    table.ratio(
        &format!(
            "modstamp libvirt status, {EMULATORS} files of {kilobytes} kB, {}",
            release.libvirt.replacen('_', " ", 1).replace('_', ".")
        ),
        time,
        "wanted",
        wanted,
        "at most 1.0",
    );
}
