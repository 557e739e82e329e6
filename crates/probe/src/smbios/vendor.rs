//! Under which key a vendor's catalogue of driver packs has a computer model.

use gravure_model::inventory::Smbios;

/// A key, and of whose catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VendorKey {
    /// Catalogue.
    pub vendor: Vendor,
    /// The key, in the case that the catalogue has: `0B98`, `21CB`, `Surface_Pro_9`.
    pub key: String,
}

/// Vendors whose catalogues have keys of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Vendor {
    /// `SupportedSystems/Brand/Model@systemID`: the SKU, four hexadecimal digits.
    Dell,
    /// `ProductOSDriverPack/SystemId`: the board's product, four hexadecimal digits.
    Hp,
    /// `Model/Types/Type`: the first four characters of the product.
    Lenovo,
    /// `SystemId`: the SKU.
    Surface,
    /// Everybody else: the board's product.
    Board,
}

impl Vendor {
    /// The word for documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dell => "dell",
            Self::Hp => "hp",
            Self::Lenovo => "lenovo",
            Self::Surface => "surface",
            Self::Board => "board",
        }
    }
}

/// What vendors write when they write nothing.
const FILLERS: [&str; 8] = [
    "to be filled by o.e.m.",
    "default string",
    "not specified",
    "not applicable",
    "system product name",
    "base board product name",
    "none",
    "n/a",
];

/// The key of a computer; `None` when it does not tell what its vendor's key is made of.
pub fn vendor_key(smbios: &Smbios) -> Option<VendorKey> {
    let said = |text: &Option<String>| {
        let text = text.as_deref()?.trim();
        (!text.is_empty() && !FILLERS.contains(&text.to_ascii_lowercase().as_str())).then(|| text.to_owned())
    };
    let (system, board) = (&smbios.system, &smbios.board);
    let maker = said(&system.manufacturer).or_else(|| said(&board.manufacturer))?.to_ascii_lowercase();
    let board_product = said(&board.product);
    let hexadecimal = |text: String| {
        let is_key = text.len() == 4 && text.bytes().all(|b| b.is_ascii_hexdigit());
        is_key.then(|| text.to_ascii_uppercase())
    };
    let (vendor, key) = if maker.starts_with("dell") || maker.starts_with("alienware") {
        (Vendor::Dell, said(&system.sku).and_then(hexadecimal))
    } else if maker == "hp" || maker.starts_with("hp ") || maker.starts_with("hewlett-packard") {
        (Vendor::Hp, board_product.clone().and_then(hexadecimal))
    } else if maker.starts_with("lenovo") {
        let kind = said(&system.product).and_then(|product| product.get(..4).map(str::to_ascii_uppercase));
        (Vendor::Lenovo, kind.filter(|kind| kind.bytes().all(|b| b.is_ascii_alphanumeric())))
    } else if maker.starts_with("microsoft")
        && said(&system.product).is_some_and(|product| product.starts_with("Surface"))
    {
        (Vendor::Surface, said(&system.sku).map(|sku| sku.replace(' ', "_")))
    } else {
        (Vendor::Board, board_product.clone())
    };
    // A machine of a vendor that says something odd still has a board.
    match key {
        Some(key) => Some(VendorKey { vendor, key }),
        None => Some(VendorKey { vendor: Vendor::Board, key: board_product? }),
    }
}

#[cfg(test)]
mod tests {
    use gravure_model::inventory::{SmbiosBoard, SmbiosSystem};

    use super::*;

    #[test]
    fn each_vendor_has_its_key() {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let cases = [
            (["Dell Inc.", "Latitude 5440", "0c03", "0ABCDE"], Some((Vendor::Dell, "0C03"))),
            (["Dell Inc.", "Latitude E6430", "Latitude E6430", "0CDR63"], Some((Vendor::Board, "0CDR63"))),
            (["HP", "HP EliteBook 840 G8", "5S7B1EA#ABF", "880D"], Some((Vendor::Hp, "880D"))),
            (["Hewlett-Packard", "HP ProBook", "", "179b"], Some((Vendor::Hp, "179B"))),
            (["LENOVO", "21cbCTO1WW", "LENOVO_MT_21CB", "21CBCTO1WW"], Some((Vendor::Lenovo, "21CB"))),
            (
                ["Microsoft Corporation", "Surface Pro 9", "Surface_Pro_9_2038", "Surface Pro 9"],
                Some((Vendor::Surface, "Surface_Pro_9_2038")),
            ),
            (
                ["Microsoft Corporation", "Virtual Machine", "None", "Virtual Machine"],
                Some((Vendor::Board, "Virtual Machine")),
            ),
            (
                ["ASUSTeK COMPUTER INC.", "System Product Name", "SKU", "PRIME B550M-A"],
                Some((Vendor::Board, "PRIME B550M-A")),
            ),
            (["Gigabyte", "x", "", "Default string"], None),
            (["", "x", "y", ""], None),
        ];
        for ([maker, product, sku, board], expected) in cases {
            let smbios = Smbios {
                system: SmbiosSystem {
                    manufacturer: some(maker),
                    product: some(product),
                    sku: some(sku),
                    ..SmbiosSystem::default()
                },
                board: SmbiosBoard { product: some(board), ..SmbiosBoard::default() },
                ..Smbios::default()
            };
            let found = vendor_key(&smbios).map(|found| (found.vendor, found.key));
            assert_eq!(found, expected.map(|(vendor, key)| (vendor, key.to_owned())), "{maker} {product}");
        }
    }
}
