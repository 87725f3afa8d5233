use super::Scenario;
use super::image::{Filesystem, Image};
use super::machine::{Boot, Disk};
use crate::named;

pub const SCENARIOS: &[(&str, Scenario)] = named![a_machine_boots,];

fn a_machine_boots() {
    let image = Image::new(true, Filesystem::Ext4);
    let disk = Disk::over(&image);
    let mut machine = Boot::new(&image, &disk).start();
    assert_eq!(machine.sh("echo $((6 * 7))"), "42\n");
    machine.shut_down();
}
