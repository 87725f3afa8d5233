# What libguestfs keeps of QEMU's devices. It asks QEMU before it starts an appliance; this one is none, so it fails then.
modules=/usr/lib/x86_64-linux-gnu/qemu
plugin=$modules/hw-display-virtio-gpu.so
version() { dpkg-query -Wf '${Version}' libguestfs0t64 2>/dev/null || dpkg-query -Wf '${Version}' libguestfs0; }
prepare() {
    mkdir /srv/appliance
    touch /srv/appliance/kernel /srv/appliance/initrd /srv/appliance/README.fixed
    truncate --size=4M /srv/appliance/root
    mke2fs -q /srv/appliance/root
}
guestfs() {
    env LIBGUESTFS_BACKEND=direct LIBGUESTFS_PATH=/srv/appliance LIBGUESTFS_BACKEND_SETTINGS=force_tcg LIBGUESTFS_CACHEDIR="$1" \
        guestfish --add /dev/null run > /dev/null 2>&1 || true
    cat "$1"/.guestfs-0/qemu-*.devices | grep --count '^name "' || true
}
ask() { guestfs /var/tmp; }
truth() { guestfs "$(mktemp -d)"; }
made() { seen /var/tmp/.guestfs-0/qemu-*.devices; }
