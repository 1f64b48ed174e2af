//! XLSX workbooks made by hand: small ones, and ones that are made to hurt.

use flate2::{Compress, Compression, Crc, FlushCompress};

/// A sheet that is being put together.
pub(crate) struct Sheet {
    rows: Vec<String>,
}

impl Sheet {
    pub(crate) fn new(first: &[&str]) -> Self {
        Self { rows: Vec::new() }.row(first)
    }

    /// A row of words.
    pub(crate) fn row(mut self, words: &[&str]) -> Self {
        let number = self.rows.len() + 1;
        let cell = |(at, word): (usize, &&str)| {
            let column = char::from(b'A' + u8::try_from(at).expect("few columns"));
            format!(r#"<c r="{column}{number}" t="inlineStr"><is><t>{word}</t></is></c>"#)
        };
        let cells: String = words.iter().enumerate().map(cell).collect();
        self.rows.push(format!(r#"<row r="{number}">{cells}</row>"#));
        self
    }

    /// A row of a time, as the day's number since 1900, and a value.
    pub(crate) fn dated(mut self, day: f64, value: f64) -> Self {
        let number = self.rows.len() + 1;
        self.rows.push(format!(
            r#"<row r="{number}"><c r="A{number}" s="1"><v>{day}</v></c><c r="B{number}"><v>{value}</v></c></row>"#
        ));
        self
    }

    fn xml(&self) -> String {
        format!(
            r#"<?xml version="1.0"?><worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>{}</sheetData></worksheet>"#,
            self.rows.concat()
        )
    }
}

/// A workbook of one sheet.
pub(crate) fn of(sheet: &Sheet) -> Vec<u8> {
    with_sheet(&[sheet.xml().as_bytes()], 1)
}

/// A workbook of some MiB whose sheet inflates to more than a GiB; says so, or says that it is small.
pub(crate) fn bomb(honest: bool) -> Vec<u8> {
    let rows = "<row r=\"1\"><c r=\"A1\"><v>1</v></c></row>".repeat(1 << 15);
    let bytes = with_sheet(&[b"<worksheet><sheetData>", rows.as_bytes()], 900);
    if honest { bytes } else { lying(bytes) }
}

/// The same archive, whose last part claims to have a thousand bytes.
fn lying(mut bytes: Vec<u8>) -> Vec<u8> {
    let name = b"xl/worksheets/sheet1.xml";
    let found = |bytes: &[u8]| -> Vec<usize> {
        let fits = |at: &usize| bytes[*at..].starts_with(name);
        (0..bytes.len()).filter(fits).collect()
    };
    // The name also stands before its own bytes; its size stands 8 and 22 bytes before the two.
    for (at, back) in found(&bytes).into_iter().zip([8, 22]) {
        bytes[at - back..at - back + 4].copy_from_slice(&1_000_u32.to_le_bytes());
    }
    bytes
}

/// A workbook with one cell of 64 MiB.
pub(crate) fn endless_cell() -> Vec<u8> {
    let text = "x".repeat(1 << 20);
    with_sheet(
        &[
            b"<worksheet><sheetData><row r=\"1\"><c r=\"A1\" t=\"str\"><v>",
            text.as_bytes(),
        ],
        64,
    )
}

/// A workbook whose sheet is the first of these pieces, and the last of them so many times.
fn with_sheet(pieces: &[&[u8]], times: usize) -> Vec<u8> {
    let main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main";
    let relations = "http://schemas.openxmlformats.org/package/2006/relationships";
    let office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
    let parts = [
        (
            "[Content_Types].xml",
            r#"<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>"#.to_owned(),
        ),
        (
            "_rels/.rels",
            format!(r#"<?xml version="1.0"?><Relationships xmlns="{relations}"><Relationship Id="rId1" Type="{office}/officeDocument" Target="xl/workbook.xml"/></Relationships>"#),
        ),
        (
            "xl/workbook.xml",
            format!(r#"<?xml version="1.0"?><workbook xmlns="{main}" xmlns:r="{office}"><sheets><sheet name="Data" sheetId="1" r:id="rId1"/></sheets></workbook>"#),
        ),
        (
            "xl/_rels/workbook.xml.rels",
            format!(r#"<?xml version="1.0"?><Relationships xmlns="{relations}"><Relationship Id="rId1" Type="{office}/worksheet" Target="worksheets/sheet1.xml"/><Relationship Id="rId2" Type="{office}/styles" Target="styles.xml"/></Relationships>"#),
        ),
        (
            "xl/styles.xml",
            format!(r#"<?xml version="1.0"?><styleSheet xmlns="{main}"><cellXfs count="2"><xf numFmtId="0"/><xf numFmtId="22"/></cellXfs></styleSheet>"#),
        ),
    ];
    let mut archive = Archive::default();
    for (name, text) in &parts {
        archive.add(name, &[text.as_bytes()], 1);
    }
    archive.add("xl/worksheets/sheet1.xml", pieces, times);
    archive.end()
}

/// A ZIP archive, as PKWARE's APPNOTE has it.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    directory: Vec<u8>,
    entries: u16,
}

impl Archive {
    fn add(&mut self, name: &str, pieces: &[&[u8]], times: usize) {
        let (mut crc, mut packed) = (Crc::new(), Vec::new());
        let (last, first) = pieces.split_last().expect("a piece");
        for piece in first {
            crc.update(piece);
            packed.extend_from_slice(&block(piece));
        }
        // A piece that comes often is packed once.
        let (mut once, again) = (Crc::new(), block(last));
        once.update(last);
        for _ in 0..times {
            crc.combine(&once);
            packed.extend_from_slice(&again);
        }
        // An empty last block ends the stream.
        packed.extend_from_slice(&[3, 0]);
        let at = u32::try_from(self.bytes.len()).expect("small");
        let mut head = Vec::new();
        for number in [20_u16, 0, 8, 0, 0x21] {
            head.extend_from_slice(&number.to_le_bytes());
        }
        for number in [
            crc.sum(),
            u32::try_from(packed.len()).expect("small"),
            crc.amount(),
        ] {
            head.extend_from_slice(&number.to_le_bytes());
        }
        head.extend_from_slice(&u16::try_from(name.len()).expect("short").to_le_bytes());
        head.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(b"PK\x03\x04");
        self.bytes.extend_from_slice(&head);
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.extend_from_slice(&packed);
        self.directory.extend_from_slice(b"PK\x01\x02\x14\x00");
        self.directory.extend_from_slice(&head);
        self.directory.extend_from_slice(&[0; 10]);
        self.directory.extend_from_slice(&at.to_le_bytes());
        self.directory.extend_from_slice(name.as_bytes());
        self.entries += 1;
    }

    fn end(mut self) -> Vec<u8> {
        let at = u32::try_from(self.bytes.len()).expect("small");
        self.bytes.extend_from_slice(&self.directory);
        self.bytes.extend_from_slice(b"PK\x05\x06\x00\x00\x00\x00");
        for _ in 0..2 {
            self.bytes.extend_from_slice(&self.entries.to_le_bytes());
        }
        let length = u32::try_from(self.directory.len()).expect("small");
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(&at.to_le_bytes());
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes
    }
}

/// A piece as blocks of a deflate stream that may stand anywhere in it.
fn block(piece: &[u8]) -> Vec<u8> {
    let mut packer = Compress::new(Compression::default(), false);
    let mut packed = Vec::with_capacity(piece.len() + 1_024);
    packer
        .compress_vec(piece, &mut packed, FlushCompress::Full)
        .expect("in memory");
    assert_eq!(packer.total_in(), piece.len() as u64);
    packed
}
