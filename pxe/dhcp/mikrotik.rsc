# MikroTik RouterOS 7: one matcher for each kind of machine. "dhcp1" is the name of your DHCP server.
/ip dhcp-server option
add name=gravure-next code=66 value="s'{{ server }}'"
add name=gravure-uefi code=67 value="s'shimx64.efi'"
add name=gravure-bios code=67 value="s'undionly.kpxe'"
add name=gravure-ipxe code=67 value="s'{{ content }}/boot.ipxe'"
add name=gravure-http code=67 value="s'{{ content }}/shimx64.efi'"
add name=gravure-http-class code=60 value="s'HTTPClient'"
/ip dhcp-server option sets
add name=gravure-uefi options=gravure-next,gravure-uefi
add name=gravure-bios options=gravure-next,gravure-bios
add name=gravure-ipxe options=gravure-ipxe
add name=gravure-http options=gravure-http,gravure-http-class
/ip dhcp-server matcher
add name=gravure-ipxe server=dhcp1 code=77 value="iPXE" matching-type=substring option-set=gravure-ipxe
add name=gravure-http server=dhcp1 code=60 value="HTTPClient:Arch:00016" matching-type=substring option-set=gravure-http
add name=gravure-uefi server=dhcp1 code=60 value="PXEClient:Arch:00007" matching-type=substring option-set=gravure-uefi
add name=gravure-bios server=dhcp1 code=60 value="PXEClient:Arch:00000" matching-type=substring option-set=gravure-bios
