//! Paths on the command line.

use std::path::{Path, PathBuf};

use clap::builder::{PathBufValueParser, TypedValueParser};

use run_files::settings::expand_home;

/// A path; a leading `~` is the home folder also behind `=`, where a shell leaves it as it is.
pub(super) fn path() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().map(expand_home)
}

/// Where a result goes: a file that may not be there yet, or a folder.
pub(super) fn result_path() -> impl TypedValueParser<Value = PathBuf> {
    path().try_map(|path| check_result(&path).map(|()| path))
}

/// Where a file goes, in a folder that is there.
pub(super) fn file_path() -> impl TypedValueParser<Value = PathBuf> {
    result_path().try_map(|path| check_folder(&path).map(|()| path))
}

/// Where a picture goes, likewise.
pub(super) fn picture_path() -> impl TypedValueParser<Value = PathBuf> {
    file_path().try_map(|path| check_picture(&path).map(|()| path))
}

/// Other programs take `-` for their standard output; here it would be a file or a folder of that name.
fn check_result(path: &Path) -> Result<(), String> {
    if path.as_os_str() == "-" {
        return Err("name a file; `/dev/stdout` is the standard output".to_owned());
    }
    Ok(())
}

/// Endings of pictures that are no PNGs.
const OTHER_PICTURES: [&str; 10] = [
    "jpg", "jpeg", "gif", "webp", "bmp", "tif", "tiff", "svg", "avif", "ppm",
];

/// A name that would promise another format than the one that is written.
pub(super) fn check_picture(path: &Path) -> Result<(), String> {
    let ending = path.extension().and_then(|ending| ending.to_str());
    let is_other = ending.is_some_and(|ending| OTHER_PICTURES.contains(&&*ending.to_lowercase()));
    if is_other {
        let name = path.with_extension("png");
        return Err(format!(
            "pictures are written as PNG; name it {}",
            name.display()
        ));
    }
    Ok(())
}

/// The folder of a file that is to be written.
pub(super) fn check_folder(path: &Path) -> Result<(), String> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    match folder {
        Some(folder) if !folder.is_dir() => Err(format!(
            "the folder {} does not exist; make it first",
            folder.display()
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_other_pictures_are_refused() {
        for name in ["s.jpg", "a/s.JPEG", "s.webp"] {
            let refused = check_picture(Path::new(name)).expect_err(name);
            assert!(refused.contains("s.png"), "{refused}");
        }
        for name in ["s.png", "s.PNG", "s", "/dev/stdout", "s.npy", "jpg"] {
            assert_eq!(check_picture(Path::new(name)), Ok(()), "{name}");
        }
    }
}
