//! Small contents of an image in memory: link targets that are to be compared. And contents that are only to be checked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use gravure_model::Ctl;
use gravure_model::event::Silent;
use gravure_tree::NodeId;

use super::{OnDamage, ReadPlan, Target, run};
use crate::meter::{Context, Meter};
use crate::uses::Use;
use crate::{Error, Image, damage};

/// A target for contents that come as a whole, which it gives to a function, and of others only checks their hashes.
pub(crate) struct Taking<F>(pub(crate) F);

impl<F: Fn(&[Use], &[u8]) + Sync> Target for Taking<F> {
    type Handles = ();
    type Open = ();

    fn handles(&self) {}

    fn whole(&self, (): &mut (), uses: &[Use], bytes: &[u8]) -> Result<(), Error> {
        (self.0)(uses, bytes);
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

/// Contents that are only to be checked.
pub(crate) fn nowhere() -> Taking<impl Fn(&[Use], &[u8]) + Sync> {
    Taking(|_: &[Use], _: &[u8]| {})
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
    let contents = Mutex::<HashMap<Use, Arc<[u8]>>>::default();
    let target = Taking(|uses: &[Use], bytes: &[u8]| {
        let bytes: Arc<[u8]> = bytes.into();
        let mut contents = contents.lock().unwrap_or_else(PoisonError::into_inner);
        contents.extend(uses.iter().map(|wanted| (*wanted, Arc::clone(&bytes))));
    });
    let damaged = run(&context, &meter, archives, &plan, &target, OnDamage::Stop)
        .map_err(|error| damage::explain(error, archives, Some(tree), &plan))?;
    if let Some(found) = damaged.into_iter().next() {
        return Err(damage::blob_error(archives, Some(tree), &plan.blobs[found.blob], found.found));
    }
    Ok(contents.into_inner().unwrap_or_else(PoisonError::into_inner))
}
