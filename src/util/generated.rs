//! Files of the repository that are generated from the code: tests compare them, or write them anew.

/// Compares a file of the repository with the text that is generated for it; with `UPDATE_GENERATED` set, writes it first.
///
/// # Panics
/// If the file is another. The message names the `command` that writes it.
pub fn assert_generated(file: &str, text: &str, command: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::write(&path, text).expect("the file can be written");
    }
    let written = std::fs::read_to_string(&path).expect("the file is there");
    assert!(written == text, "{file} is not what the declarations say: UPDATE_GENERATED=1 {command}");
}
