//! `gravure image list`: what a site can deploy.

use std::process::ExitCode;

use gravure_server::ImageListing;
use serde::Serialize;

use crate::Common;
use crate::commands::site::{SiteOptions, print_table};
use crate::exit::Failure;
use crate::output::{Row, bytes};

/// List the images a site can deploy: files of its image directory, and what is in its store
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gravure image list --site /srv/gravure
  gravure image list --format json

`gravure machine capture` makes images in the store; `gravure plan create --image NAME` deploys any of them.")]
pub(super) struct Options {
    #[command(flatten)]
    site: SiteOptions,
}

#[derive(Debug, Serialize)]
#[serde(transparent)]
struct ImageRow(ImageListing);

impl Row for ImageRow {
    fn columns() -> &'static [&'static str] {
        &["name", "where", "bytes", "holds", "state"]
    }

    fn cells(&self) -> Vec<String> {
        let image = &self.0;
        let state = match (&image.digest, &image.problem) {
            (Some(_), _) => "ready".to_owned(),
            (None, Some(problem)) => problem.clone(),
            (None, None) => "being looked at".to_owned(),
        };
        let names: Vec<&str> =
            image.images.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
        vec![
            image.name.clone(),
            if image.stored { "store" } else { "file" }.to_owned(),
            bytes(image.content_bytes.unwrap_or(image.size_bytes)),
            if names.is_empty() { "-".to_owned() } else { names.join(", ") },
            state,
        ]
    }
}

pub(super) fn run(options: &Options, common: &Common) -> Result<ExitCode, Failure> {
    let rows = options.site.client()?.images()?.into_iter().map(ImageRow).collect();
    print_table(common.format, rows, "No images: put one into the image directory, or capture a machine.")?;
    Ok(ExitCode::SUCCESS)
}
