# MikroTik RouterOS 7: one matcher for each kind of machine. "dhcp1" is the name of your DHCP server.
# \24 and \3F are a dollar and a question mark; iPXE fills in what stands in braces, so that the server knows which machine asks.
{%- if only_http %}
# UEFI machines start an image that the site's own key signed, by HTTP boot alone: there is nothing for their PXE.
{%- endif %}
/ip dhcp-server option
add name=gravure-next code=66 value="s'{{ server }}'"
add name=gravure-bios code=67 value="s'{{ bios }}'"
add name=gravure-ipxe code=67 value="s'{{ script | replace("$", "\\24") | replace("?", "\\3F") }}'"
add name=gravure-http-class code=60 value="s'HTTPClient'"
{%- for arch in uefi %}
{%- if arch.file %}
add name=gravure-{{ arch.name }} code=67 value="s'{{ arch.file }}'"
{%- endif %}
add name=gravure-{{ arch.name }}-http code=67 value="s'{{ arch.url }}'"
{%- endfor %}
/ip dhcp-server option sets
add name=gravure-bios options=gravure-next,gravure-bios
add name=gravure-ipxe options=gravure-ipxe
{%- for arch in uefi %}
{%- if arch.file %}
add name=gravure-{{ arch.name }} options=gravure-next,gravure-{{ arch.name }}
{%- endif %}
add name=gravure-{{ arch.name }}-http options=gravure-{{ arch.name }}-http,gravure-http-class
{%- endfor %}
/ip dhcp-server matcher
add name=gravure-ipxe server=dhcp1 code=77 value="iPXE" matching-type=substring option-set=gravure-ipxe
{%- for arch in uefi %}
add name=gravure-{{ arch.name }}-http server=dhcp1 code=60 value="HTTPClient:Arch:{{ arch.http_digits }}" matching-type=substring option-set=gravure-{{ arch.name }}-http
{%- for number in arch.pxe_digits %}
add name=gravure-{{ arch.name }}-{{ loop.index }} server=dhcp1 code=60 value="PXEClient:Arch:{{ number }}" matching-type=substring option-set=gravure-{{ arch.name }}
{%- endfor %}
{%- endfor %}
add name=gravure-bios server=dhcp1 code=60 value="PXEClient:Arch:00000" matching-type=substring option-set=gravure-bios
