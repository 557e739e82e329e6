//! `gravure edit`: an image changed where it is.

use std::path::PathBuf;
use std::process::ExitCode;

use gravure_imaging::{
    Boot, DeleteRule, EditOptions, ErrorKind, Exclusions, InfoChange, Overlay, ScanOptions, Target,
    TreeChange, edit,
};

use super::rewrite::{Writing, print, recovering, unfinished};
use crate::exit::{Failure, done_or_partial};
use crate::progress::Reporter;
use crate::target::ImageName;
use crate::{Common, interrupt};

/// Change an image: its name and properties, or the files in it, without a mount
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Everything that is not named stays byte for byte. New content goes behind the end of the file and becomes valid
with the last write, so that a crash leaves the file as it was. Deletions come first, then renames, then additions.
An empty text takes a property away.

Examples:
  gravure edit install.wim:1 --name \"Pro 24H2\" --description \"March\" --boot
  gravure edit install.wim:1 --property WINDOWS/EDITIONID=Professional --flags Professional
  gravure edit install.wim:1 --add unattend.xml /Windows/Panther/unattend.xml
  gravure edit boot.wim:2 --add drivers /Drivers --delete /Windows/old.log --rename /a.txt /b.txt
  gravure edit install.wim:1 --delete /Windows/WinSxS/Backup --rebuild"
)]
pub(crate) struct Options {
    /// Image file, with :NUMBER or :NAME
    image: ImageName,
    /// Name of the image
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// Description of the image
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Edition flag that Windows Setup goes by
    #[arg(long, value_name = "TEXT")]
    flags: Option<String>,
    /// Any element of the image's XML, e.g. WINDOWS/EDITIONID=Professional
    #[arg(long, value_name = "KEY=VALUE")]
    property: Vec<Property>,
    /// Make the image the bootable one
    #[arg(long, conflicts_with = "no_boot")]
    boot: bool,
    /// Make it not bootable
    #[arg(long)]
    no_boot: bool,
    /// Add the file or directory SOURCE of this machine at the path TO in the image
    #[arg(long, num_args = 2, value_names = ["SOURCE", "TO"])]
    add: Vec<String>,
    /// Leave these paths out of added directories (from the root of the directory, with *)
    #[arg(long, value_name = "PATTERN", requires = "add")]
    exclude: Vec<String>,
    /// Delete this path in the image, with all below it
    #[arg(long, value_name = "PATH")]
    delete: Vec<String>,
    /// Give the path FROM in the image the path TO
    #[arg(long, num_args = 2, value_names = ["FROM", "TO"])]
    rename: Vec<String>,
    /// Write the file anew afterwards, which closes the gaps that changes leave
    #[arg(long)]
    rebuild: bool,
    /// Put the file back first if another writer left it unfinished
    #[arg(long)]
    recover: bool,
    #[command(flatten)]
    writing: Writing,
}

/// `KEY=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Property {
    key: String,
    value: String,
}

impl std::str::FromStr for Property {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => {
                Ok(Self { key: key.to_owned(), value: value.to_owned() })
            }
            _ => Err(format!("{text:?} is not KEY=VALUE")),
        }
    }
}

pub(crate) fn run(options: &Options, common: &Common) -> Result<ExitCode, Failure> {
    let ctl = interrupt::ctl();
    let reporter = Reporter::new(common.progress);
    let path = options.image.local()?;
    let mut rewrite = options.writing.options("edit");
    recovering(&mut rewrite, options.recover);
    let edit_options = EditOptions {
        rewrite,
        info: info_changes(options),
        boot: match (options.boot, options.no_boot) {
            (true, _) => Boot::Set,
            (false, true) => Boot::Clear,
            (false, false) => Boot::Leave,
        },
        tree: tree_changes(options)?,
        target: if options.rebuild { Target::Rebuild } else { Target::Append },
        ..EditOptions::default()
    };
    if edit_options.info.is_empty() && edit_options.tree.is_empty() && edit_options.boot == Boot::Leave {
        return Err(Failure::new(ErrorKind::Usage, "nothing to change was given")
            .with_cure("`gravure edit --help` lists what can be changed"));
    }
    let report = edit(path, &options.image.which, &edit_options, &ctl, &reporter)
        .map_err(|error| unfinished(error, "--recover"))?;
    print(path, &report, common)?;
    Ok(done_or_partial(report.skipped))
}

fn info_changes(options: &Options) -> Vec<InfoChange> {
    let named = [("NAME", &options.name), ("DESCRIPTION", &options.description), ("FLAGS", &options.flags)];
    let named = named.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.clone()?)));
    let properties = options.property.iter().map(|property| (property.key.clone(), property.value.clone()));
    let change = |(key, value): (String, String)| match value.is_empty() {
        true => InfoChange::Remove(key),
        false => InfoChange::Set(key, value),
    };
    named.chain(properties).map(change).collect()
}

fn tree_changes(options: &Options) -> Result<Vec<TreeChange>, Failure> {
    let scan = ScanOptions { exclude: Exclusions::new(options.exclude.clone())?, ..ScanOptions::default() };
    let pairs = |list: &[String]| -> Vec<(String, String)> {
        list.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
    };
    let deletions = options
        .delete
        .iter()
        .map(|path| TreeChange::Delete { path: path.clone(), rule: DeleteRule::default() });
    let renames = pairs(&options.rename).into_iter().map(|(from, to)| TreeChange::Rename { from, to });
    let additions = pairs(&options.add).into_iter().map(|(source, to)| TreeChange::Add {
        source: PathBuf::from(source),
        to,
        scan: scan.clone(),
        overlay: Overlay::Replace,
    });
    Ok(deletions.chain(renames).chain(additions).collect())
}
