//! Boot configuration data (BCD): what Windows' boot manager starts, kept in a hive. Objects with elements; see
//! windows-servicing section 3.1.

mod create;
mod device;
mod element;
mod names;
mod store;

pub use create::{Firmware, Recovery, StoreIds, StoreOptions};
pub use device::{Device, FilePath};
pub use element::{ElementFormat, ElementType, ElementValue};
pub use names::{object_id, object_name, object_type_name};
pub use store::{Element, ListChange, Object, Store, StoreEditor};
