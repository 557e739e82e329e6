# Windows DHCP server, in PowerShell as administrator. Policies are of the whole server; add -ScopeId to each line for one scope.
# Single quotes: iPXE, not PowerShell, fills in what stands in braces, so that the server knows which machine asks.
{%- if only_http %}
# UEFI machines start an image that the site's own key signed, by HTTP boot alone: there is nothing for their PXE.
{%- endif %}
# Vendor classes by what machines send in option 60.
Add-DhcpServerv4Class -Name 'Gravure BIOS' -Type Vendor -Data 'PXEClient:Arch:00000'
Add-DhcpServerv4Class -Name 'Gravure iPXE' -Type User -Data 'iPXE'
Add-DhcpServerv4Policy -Name 'Gravure iPXE' -Condition OR -UserClass EQ,'Gravure iPXE' -ProcessingOrder 1
Set-DhcpServerv4OptionValue -PolicyName 'Gravure iPXE' -OptionId 67 -Value '{{ script }}'
{%- for arch in uefi %}
Add-DhcpServerv4Class -Name 'Gravure {{ arch.name }} HTTP' -Type Vendor -Data 'HTTPClient:Arch:{{ arch.http_digits }}'
Add-DhcpServerv4Policy -Name 'Gravure {{ arch.name }} HTTP' -Condition OR -VendorClass EQ,'Gravure {{ arch.name }} HTTP*'
Set-DhcpServerv4OptionValue -PolicyName 'Gravure {{ arch.name }} HTTP' -OptionId 60 -Value 'HTTPClient'
Set-DhcpServerv4OptionValue -PolicyName 'Gravure {{ arch.name }} HTTP' -OptionId 67 -Value '{{ arch.url }}'
{%- for number in arch.pxe_digits %}
Add-DhcpServerv4Class -Name 'Gravure {{ arch.name }} {{ loop.index }}' -Type Vendor -Data 'PXEClient:Arch:{{ number }}'
Add-DhcpServerv4Policy -Name 'Gravure {{ arch.name }} {{ loop.index }}' -Condition OR -VendorClass EQ,'Gravure {{ arch.name }} {{ loop.index }}*'
Set-DhcpServerv4OptionValue -PolicyName 'Gravure {{ arch.name }} {{ loop.index }}' -OptionId 66 -Value '{{ server }}'
Set-DhcpServerv4OptionValue -PolicyName 'Gravure {{ arch.name }} {{ loop.index }}' -OptionId 67 -Value '{{ arch.file }}'
{%- endfor %}
{%- endfor %}
Add-DhcpServerv4Policy -Name 'Gravure BIOS' -Condition OR -VendorClass EQ,'Gravure BIOS*'
Set-DhcpServerv4OptionValue -PolicyName 'Gravure BIOS' -OptionId 66 -Value '{{ server }}'
Set-DhcpServerv4OptionValue -PolicyName 'Gravure BIOS' -OptionId 67 -Value '{{ bios }}'
# Option 60 for everybody, as some guides have it, breaks HTTP boot: remove it if it is set.
