//! Puts the built dashboard (`dashboard/dist/page`, made by `npm run build`) into the binary, compressed.
//!
//! Promises: without a built dashboard this makes an empty list, and the binary builds with Rust alone. Knows no npm.

use std::{
    env, error, fs,
    hash::{DefaultHasher, Hash, Hasher},
    io::Write,
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};

fn main() -> Result<(), Box<dyn error::Error>> {
    // The folder `dist` is always there, so that Cargo notices when a page appears in it.
    println!("cargo::rerun-if-changed=dashboard/dist");
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("dashboard/dist/page");
    let mut files = Vec::new();
    if root.is_dir() {
        collect(&root, &mut files)?;
    }
    files.sort();
    let mut list = String::from("&[\n");
    for (number, file) in files.iter().enumerate() {
        let bytes = fs::read(file)?;
        let packed = out.join(format!("page-{number}.gz"));
        let mut encoder = GzEncoder::new(fs::File::create(&packed)?, Compression::best());
        encoder.write_all(&bytes)?;
        encoder.finish()?;
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        let path = file.strip_prefix(&root)?.to_string_lossy().replace('\\', "/");
        list.push_str(&format!(
            "    File {{ path: {:?}, kind: {:?}, tag: \"\\\"{:016x}\\\"\", gzip: include_bytes!({:?}) }},\n",
            format!("/{path}"),
            kind(file),
            hasher.finish(),
            packed.display().to_string(),
        ));
    }
    list.push(']');
    fs::write(out.join("page.rs"), list)?;
    Ok(())
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, into)?;
        } else {
            into.push(path);
        }
    }
    Ok(())
}

fn kind(file: &Path) -> &'static str {
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("json" | "webmanifest") => "application/json",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
