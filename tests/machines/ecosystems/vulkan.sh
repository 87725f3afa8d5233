# Vulkan's loader keeps no answers. `modstamp run` keeps them.
modules=/usr/share/vulkan/explicit_layer.d
plugin=$modules/VkLayer_MESA_overlay.json
version() { dpkg-query -Wf '${Version}' mesa-vulkan-drivers; }
prepare() { counted /usr/bin/vulkaninfo; }
layers() { sed -n 's/^\(VK_LAYER_[A-Za-z_]*\) .*/\1/p; s/.*deviceName *= //p'; }
ask() { run vulkaninfo --summary 2> /dev/null | layers; }
truth() { vulkaninfo.real --summary 2> /dev/null | layers; }
made() { runs; }
