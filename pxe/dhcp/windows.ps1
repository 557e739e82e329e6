# Windows DHCP server, in PowerShell as administrator. Policies are of the whole server; add -ScopeId to each line for one scope.
# Vendor classes by what machines send in option 60.
Add-DhcpServerv4Class -Name "Gravure BIOS" -Type Vendor -Data "PXEClient:Arch:00000"
Add-DhcpServerv4Class -Name "Gravure UEFI" -Type Vendor -Data "PXEClient:Arch:00007"
Add-DhcpServerv4Class -Name "Gravure HTTP" -Type Vendor -Data "HTTPClient:Arch:00016"
Add-DhcpServerv4Class -Name "Gravure iPXE" -Type User -Data "iPXE"
Add-DhcpServerv4Policy -Name "Gravure iPXE" -Condition OR -UserClass EQ,"Gravure iPXE" -ProcessingOrder 1
Set-DhcpServerv4OptionValue -PolicyName "Gravure iPXE" -OptionId 67 -Value "{{ content }}/boot.ipxe"
Add-DhcpServerv4Policy -Name "Gravure HTTP" -Condition OR -VendorClass EQ,"Gravure HTTP*"
Set-DhcpServerv4OptionValue -PolicyName "Gravure HTTP" -OptionId 60 -Value "HTTPClient"
Set-DhcpServerv4OptionValue -PolicyName "Gravure HTTP" -OptionId 67 -Value "{{ content }}/shimx64.efi"
Add-DhcpServerv4Policy -Name "Gravure UEFI" -Condition OR -VendorClass EQ,"Gravure UEFI*"
Set-DhcpServerv4OptionValue -PolicyName "Gravure UEFI" -OptionId 66 -Value "{{ server }}"
Set-DhcpServerv4OptionValue -PolicyName "Gravure UEFI" -OptionId 67 -Value "shimx64.efi"
Add-DhcpServerv4Policy -Name "Gravure BIOS" -Condition OR -VendorClass EQ,"Gravure BIOS*"
Set-DhcpServerv4OptionValue -PolicyName "Gravure BIOS" -OptionId 66 -Value "{{ server }}"
Set-DhcpServerv4OptionValue -PolicyName "Gravure BIOS" -OptionId 67 -Value "undionly.kpxe"
# Option 60 for everybody, as some guides have it, breaks HTTP boot: remove it if it is set.
