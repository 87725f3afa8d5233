//! Prints the public API that a file of rustdoc's JSON tells of, an item a line.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let json = std::env::args_os()
        .nth(1)
        .ok_or("name a file of rustdoc's JSON")?;
    let api = public_api::Builder::from_rustdoc_json(json)
        .omit_blanket_impls(true)
        .build()?;
    // The compiler's own, which no program can name.
    let internal = ["Freeze", "StructuralPartialEq", "UnsafeUnpin"]
        .map(|name| format!("core::marker::{name} for"));
    let items = api.items().map(|item| item.to_string());
    for item in items.filter(|item| !internal.iter().any(|name| item.contains(name))) {
        println!("{item}");
    }
    Ok(())
}
