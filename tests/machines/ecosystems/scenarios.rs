//! The changes, each with the answer that the program gives without modstamp.

use super::By::{Dpkg, Hand, Run};
use super::Seen::{Right, Stale};
use super::{
    ENTRY_POINTS, FONTCONFIG, GDK_PIXBUF, GIO, GSTREAMER, GTK3, LIBGUESTFS, NBDKIT, Scenario, VLC,
    VULKAN, scenario,
};

const SWAP: [&str; 2] = ["", "swap $plugin"];
const REMOVE: [&str; 2] = ["", "rm $plugin"];
const COPY: [&str; 2] = [
    "mv $plugin /srv; $query --update-cache",
    "mv /srv/${plugin##*/} $plugin",
];
const REMOVE_PACKAGE: [&str; 2] = ["own $plugin", "dpkg --remove own"];
/// The package has another plug-in of the same size and time.
const SWAP_PACKAGE: [&str; 2] = [
    "cp -a $plugin /srv; swap $plugin; pack $plugin; cp -a /srv/${plugin##*/} $plugin",
    "dpkg --install --force-overwrite /srv/own.deb",
];

pub const SCENARIOS: &[Scenario] = &[
    scenario(
        &GSTREAMER,
        "a_plug_in_swapped_with_equal_size_and_time_is_noticed",
        SWAP,
        Hand,
        Stale,
    ),
    scenario(
        &GSTREAMER,
        "a_package_that_swaps_a_plug_in_with_equal_size_and_time_is_noticed",
        SWAP_PACKAGE,
        Dpkg,
        Stale,
    ),
    scenario(
        &GSTREAMER,
        "a_plug_in_removed_by_hand_is_noticed",
        REMOVE,
        Hand,
        Right,
    ),
    scenario(
        &GDK_PIXBUF,
        "a_loader_removed_by_hand_is_noticed",
        REMOVE,
        Hand,
        Stale,
    ),
    scenario(
        &GDK_PIXBUF,
        "a_loader_copied_into_place_is_noticed",
        COPY,
        Hand,
        Stale,
    ),
    scenario(
        &GDK_PIXBUF,
        "a_package_with_a_loader_that_is_removed_costs_one_rebuild",
        REMOVE_PACKAGE,
        Dpkg,
        Right,
    ),
    scenario(
        &FONTCONFIG,
        "a_font_removed_with_the_mtime_put_back_is_noticed",
        ["", "unseen $modules rm $plugin"],
        Hand,
        Stale,
    ),
    scenario(
        &FONTCONFIG,
        "an_image_with_all_times_0_and_another_font_is_noticed",
        [
            "find /usr/share/fonts -exec touch -d @0 {} +; fc-cache --system-only --force",
            "cat $modules/DejaVuSans.ttf > $plugin; find /usr/share/fonts -exec touch -d @0 {} +",
        ],
        Hand,
        Stale,
    ),
    scenario(
        &FONTCONFIG,
        "a_package_with_a_font_that_is_removed_is_noticed",
        REMOVE_PACKAGE,
        Dpkg,
        Right,
    )
    .made_again(),
    scenario(
        &LIBGUESTFS,
        "a_qemu_module_removed_by_hand_is_noticed",
        ["", "rm $modules/hw-display-virtio-*"],
        Hand,
        Stale,
    ),
    scenario(
        &LIBGUESTFS,
        "a_package_with_qemu_modules_that_is_removed_is_noticed",
        ["", "dpkg --remove --force-depends $devices"],
        Dpkg,
        Stale,
    ),
    scenario(
        &GIO,
        "a_module_replaced_before_a_touch_of_the_list_is_noticed",
        [
            "cp $plugin /srv; rm $plugin; $query $modules",
            "cat /srv/${plugin##*/} > $modules/libgiolibproxy.so; touch $modules/giomodule.cache",
        ],
        Hand,
        Stale,
    ),
    scenario(
        &GIO,
        "a_module_removed_by_hand_is_noticed",
        REMOVE,
        Hand,
        Right,
    ),
    scenario(
        &GIO,
        "a_package_with_a_module_that_is_removed_costs_one_rebuild",
        REMOVE_PACKAGE,
        Dpkg,
        Right,
    ),
    scenario(
        &VLC,
        "a_plug_in_swapped_with_equal_size_and_time_is_noticed",
        SWAP,
        Hand,
        Stale,
    ),
    scenario(
        &VLC,
        "a_plug_in_removed_by_hand_is_noticed",
        REMOVE,
        Hand,
        Right,
    ),
    scenario(
        &VLC,
        "a_package_with_a_plug_in_that_is_removed_costs_one_rebuild",
        REMOVE_PACKAGE,
        Dpkg,
        Right,
    ),
    scenario(
        &ENTRY_POINTS,
        "an_entry_point_added_within_two_minutes_is_noticed",
        [
            "touch -d @1780000000 $plugin",
            "echo 'two = os:getpid' >> $plugin; touch -d @1780000060 $plugin",
        ],
        Hand,
        Stale,
    ),
    scenario(
        &ENTRY_POINTS,
        "a_package_upgraded_with_files_of_the_same_time_is_noticed",
        ["plug 2 one two", "dpkg --install /srv/plug.deb"],
        Dpkg,
        Stale,
    ),
    scenario(
        &GTK3,
        "an_input_method_removed_by_hand_is_noticed",
        REMOVE,
        Hand,
        Stale,
    ),
    scenario(
        &GTK3,
        "a_package_with_an_input_method_that_is_removed_costs_one_rebuild",
        REMOVE_PACKAGE,
        Dpkg,
        Right,
    ),
    scenario(
        &NBDKIT,
        "a_plug_in_replaced_by_hand_is_noticed",
        ["", "cat $modules/nbdkit-zero-plugin.so > $plugin"],
        Run,
        Right,
    ),
    scenario(
        &VULKAN,
        "a_layer_removed_by_hand_is_noticed",
        REMOVE,
        Run,
        Right,
    ),
];
