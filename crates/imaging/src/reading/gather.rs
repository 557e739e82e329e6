//! Small contents of an image in memory: link targets that are to be compared.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use gravure_model::Ctl;
use gravure_model::event::Silent;
use gravure_tree::NodeId;

use super::{OnDamage, ReadPlan, Target, run};
use crate::meter::{Context, Meter};
use crate::uses::Use;
use crate::{Error, Image, damage};

/// Contents by their use; what is too large to come as a whole is left out.
#[derive(Default)]
struct Gathered {
    contents: Mutex<HashMap<Use, Arc<[u8]>>>,
}

impl Target for Gathered {
    type Handles = ();
    type Open = ();

    fn handles(&self) {}

    fn whole(&self, (): &mut (), uses: &[Use], bytes: &[u8]) -> Result<(), Error> {
        let bytes: Arc<[u8]> = bytes.into();
        let mut contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        for wanted in uses {
            contents.insert(*wanted, Arc::clone(&bytes));
        }
        Ok(())
    }

    fn open(&self, (): &mut (), _: &[Use]) -> Result<(), Error> {
        Ok(())
    }

    fn piece(&self, _: &[Use], (): &(), _: u64, _: &[u8]) -> Result<(), Error> {
        Ok(())
    }

    fn finish(&self, (): &mut (), _: &[Use], (): &(), _: u64) -> Result<(), Error> {
        Ok(())
    }

    fn node(&self, (): &mut (), _: NodeId) -> Result<(), Error> {
        Ok(())
    }
}

/// Reads the contents that `wants` agrees to, in archive order and each chunk once. Damage is an error.
pub(crate) fn gather(
    image: &Image,
    threads: usize,
    ctl: &Ctl,
    wants: impl Fn(Use) -> bool,
) -> Result<HashMap<Use, Arc<[u8]>>, Error> {
    let (tree, archives) = (image.tree(), image.archives());
    let plan = ReadPlan::new(tree, archives, wants, |_| false)?;
    let context = Context { ctl, observer: &Silent, threads };
    let meter = Meter::start(&context, "");
    let target = Gathered::default();
    let damaged = run(&context, &meter, archives, &plan, &target, OnDamage::Stop)
        .map_err(|error| damage::explain(error, archives, Some(tree), &plan))?;
    if let Some(found) = damaged.into_iter().next() {
        return Err(damage::blob_error(archives, Some(tree), &plan.blobs[found.blob], found.found));
    }
    Ok(target.contents.into_inner().unwrap_or_else(PoisonError::into_inner))
}
