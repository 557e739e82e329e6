//! What the commands for a running site share: finding its server, tables, times.

use std::path::{Path, PathBuf};

use gravure_imaging::ErrorKind;
use gravure_model::{Secret, Timestamp};
use gravure_server::{CONFIG_NAME, Client, ClientSettings, Config, Error};

use crate::exit::Failure;
use crate::output::{self, Format, Row};

/// Which server, and as whom
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SiteOptions {
    /// Directory of a site on this machine, as `gravure init` made it [default: that of $GRAVURE_CONFIG, or the current one]
    #[arg(long, value_name = "DIR", env = "GRAVURE_SITE", conflicts_with_all = ["server", "token_file", "ca"])]
    site: Option<PathBuf>,
    /// API of a server elsewhere, like https://10.0.0.1:8443
    #[arg(long, value_name = "URL", requires_all = ["token_file", "ca"])]
    server: Option<String>,
    /// File with an operator's token
    #[arg(long, value_name = "FILE", requires = "server")]
    token_file: Option<PathBuf>,
    /// The site CA's certificate, keys/ca.pem in the site directory
    #[arg(long, value_name = "FILE", requires = "server")]
    ca: Option<PathBuf>,
}

impl SiteOptions {
    /// The site's directory, when it is on this machine.
    fn dir(&self) -> PathBuf {
        let of_config = || Some(Path::new(&std::env::var_os("GRAVURE_CONFIG")?).parent()?.to_owned());
        self.site.clone().or_else(of_config).unwrap_or_else(|| PathBuf::from("."))
    }

    /// The name an image has on the server. A path to a file elsewhere puts that file into the site's image directory.
    pub(crate) fn image(&self, image: &str) -> Result<String, Failure> {
        if !image.contains('/') {
            return Ok(image.to_owned());
        }
        let path = Path::new(image);
        if self.server.is_some() {
            return Err(Failure::new(
                ErrorKind::Usage,
                format!("{image} is a path, but the server is elsewhere"),
            )
            .with_cure("copy the file into the server's image directory and give its name"));
        }
        let images = Config::load(&self.dir().join(CONFIG_NAME))?.paths.images;
        import(path, &images)
    }

    /// A client of the chosen server.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        let settings = match (&self.server, &self.token_file, &self.ca) {
            (Some(server), Some(token_file), Some(ca)) => {
                let token = std::fs::read_to_string(token_file);
                let token = token.map_err(|error| Failure::io("read", token_file, &error))?;
                ClientSettings { server: server.clone(), ca: ca.clone(), token: Secret::new(token.trim()) }
            }
            _ => {
                let dir = self.dir();
                if !dir.join(CONFIG_NAME).is_file() {
                    return Err(Failure::new(ErrorKind::NotFound, format!("no site in {}", dir.display()))
                        .with_cure("name one: --site DIR, or --server URL --token-file FILE --ca FILE"));
                }
                ClientSettings::of_site(&dir)?
            }
        };
        Ok(Client::new(&settings)?)
    }
}

/// Puts an image file into the image directory: as a hard link where that is possible, else as a copy.
fn import(path: &Path, images: &Path) -> Result<String, Failure> {
    let source = path.canonicalize().map_err(|error| Failure::io("read", path, &error))?;
    let name = source.file_name().and_then(|name| name.to_str());
    let name =
        name.ok_or_else(|| Failure::new(ErrorKind::Usage, format!("{} has no usable name", path.display())))?;
    let target = images.join(name);
    if target.canonicalize().is_ok_and(|there| there == source)
        || std::fs::hard_link(&source, &target).is_ok()
    {
        return Ok(name.to_owned());
    }
    let facts = |path: &Path| std::fs::metadata(path).map_err(|error| Failure::io("read", path, &error));
    if target.exists() {
        let (new, old) = (facts(&source)?, facts(&target)?);
        let same = |a: &std::fs::Metadata, b: &std::fs::Metadata| {
            a.len() == b.len() && a.modified().ok() == b.modified().ok()
        };
        if same(&new, &old) {
            return Ok(name.to_owned());
        }
        let message = format!("{} is there already and is another file", target.display());
        return Err(Failure::new(ErrorKind::Refused, message)
            .with_cure("remove it, or give the new file another name"));
    }
    eprintln!("copying {} into {}", source.display(), images.display());
    // Under another name first: the server must not see half an image.
    let part = images.join(format!(".{name}.part"));
    let copied = std::fs::copy(&source, &part).and_then(|_| {
        let modified = std::fs::metadata(&source)?.modified()?;
        std::fs::File::options().append(true).open(&part)?.set_modified(modified)?;
        std::fs::rename(&part, &target)
    });
    copied.map_err(|error| Failure::io("copy to", &target, &error))?;
    Ok(name.to_owned())
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        use gravure_server::ErrorKind as Kind;
        let kind = match error.kind() {
            Kind::Usage => ErrorKind::Usage,
            Kind::NotFound => ErrorKind::NotFound,
            Kind::Refused => ErrorKind::Refused,
            Kind::Io => ErrorKind::Io,
            Kind::Network => ErrorKind::Network,
            Kind::Permission => ErrorKind::Permission,
            _ => ErrorKind::Failed,
        };
        let failure = Self::new(kind, error.to_string());
        match error.cure() {
            Some(cure) => failure.with_cure(cure),
            None => failure,
        }
    }
}

/// Prints a listing; people get a table with aligned columns.
pub(crate) fn print_table<T: Row>(format: Format, rows: Vec<T>, empty: &str) -> Result<(), Failure> {
    if format != Format::Text {
        return output::listing(format, rows.into_iter(), |_| String::new());
    }
    if rows.is_empty() {
        eprintln!("{empty}");
        return Ok(());
    }
    let cells: Vec<Vec<String>> = rows.iter().map(Row::cells).collect();
    output::write(&table(T::columns(), &cells))
}

/// Aligned columns with a header.
pub(crate) fn table(columns: &[&str], rows: &[Vec<String>]) -> String {
    let header: Vec<String> = columns.iter().map(|name| name.replace('_', " ").to_uppercase()).collect();
    let all = || std::iter::once(&header).chain(rows);
    let width = |index: usize| all().filter_map(|row| row.get(index)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns.len()).map(|index| width(index).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    all().map(line).collect()
}

/// A point in time for people.
pub(crate) fn time(at: Timestamp) -> String {
    jiff::Timestamp::from_microsecond(at.0)
        .map_or_else(|_| at.0.to_string(), |at| at.strftime("%F %T UTC").to_string())
}

/// Seconds of a span such as `90s`, `30m`, `2h`, `1d`.
pub(crate) fn parse_span(text: &str) -> Result<i64, String> {
    let expected = || format!("{text:?} is no span of time; expected a number with s, m, h or d, like 2h");
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 86_400,
        _ => return Err(expected()),
    };
    let count: u32 =
        text.get(..text.len() - 1).and_then(|digits| digits.parse().ok()).ok_or_else(expected)?;
    let seconds = i64::from(count) * unit;
    if seconds == 0 { Err(expected()) } else { Ok(seconds) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        let cases = [("90s", Ok(90)), ("30m", Ok(1800)), ("2h", Ok(7200)), ("1d", Ok(86_400))];
        for (text, expected) in cases {
            assert_eq!(parse_span(text), expected);
        }
        for text in ["", "2", "h", "-1h", "1.5h", "0s", "2ü"] {
            assert!(parse_span(text).unwrap_err().contains("like 2h"), "{text}");
        }
    }

    #[test]
    fn tables_are_aligned() {
        let rows = [vec!["a".to_owned(), "long cell".to_owned()], vec!["bcd".to_owned(), String::new()]];
        assert_eq!(table(&["id", "host_name"], &rows), "ID   HOST NAME\na    long cell\nbcd\n");
    }

    #[test]
    fn times_are_readable() {
        assert_eq!(time(Timestamp(1_000_000)), "1970-01-01 00:00:01 UTC");
    }
}
