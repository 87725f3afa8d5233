# fontconfig's lists of fonts.
modules=/usr/share/fonts/truetype/dejavu
plugin=$modules/DejaVuSansMono.ttf
version() { dpkg-query -Wf '${Version}' libfontconfig1; }
prepare() { counted /usr/bin/fc-cache; }
ask() { as_one fc-list : family file | sed -n 's,.*/DejaVuSansMono.ttf: ,,p'; }
truth() {
    configuration=$(mktemp)
    chmod 644 "$configuration"
    echo "<fontconfig><dir>/usr/share/fonts</dir><cachedir>$(mktemp -d)</cachedir></fontconfig>" > "$configuration"
    FONTCONFIG_FILE=$configuration fc-list : family file | sed -n 's,.*/DejaVuSansMono.ttf: ,,p'
}
made() { runs; }
