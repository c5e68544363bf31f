//! Reading a two-dimensional array from NumPy's `.npy` format (versions 1 to 3).

/// A matrix, row-major.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NpyMatrix {
    /// Rows.
    pub(crate) rows: usize,
    /// Columns.
    pub(crate) dim: usize,
    /// `[rows, dim]`.
    pub(crate) values: Vec<f32>,
}

/// Parses a file's bytes; the error says what was found.
pub(crate) fn parse(bytes: &[u8]) -> Result<NpyMatrix, String> {
    let (header, data) = split(bytes).ok_or("is not a whole .npy file")?;
    if field(header, "fortran_order")? != "False" {
        return Err("is in Fortran order; save it with numpy.ascontiguousarray".to_owned());
    }
    let (rows, dim) = shape(header)?;
    let kind = field(header, "descr")?;
    let (size, convert): (usize, fn(&[u8]) -> f32) = match kind.trim_matches(['\'', '"']) {
        "<f2" => (2, |b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()),
        "<f4" => (4, |b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
        "<f8" => (8, |b| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f32),
        other => return Err(format!("holds {other}; little-endian float16, float32 or float64 is expected")),
    };
    let expected = rows.checked_mul(dim).and_then(|n| n.checked_mul(size));
    if expected != Some(data.len()) {
        return Err(format!("has {} bytes of data, which is not {rows} x {dim} of {kind}", data.len()));
    }
    Ok(NpyMatrix { rows, dim, values: data.chunks_exact(size).map(convert).collect() })
}

fn split(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let rest = bytes.strip_prefix(b"\x93NUMPY")?;
    let (version, rest) = rest.split_at_checked(2)?;
    let (length, rest) = match version[0] {
        1 => rest.split_at_checked(2).map(|(n, rest)| (usize::from(u16::from_le_bytes([n[0], n[1]])), rest))?,
        2 | 3 => {
            rest.split_at_checked(4).map(|(n, rest)| (u32::from_le_bytes([n[0], n[1], n[2], n[3]]) as usize, rest))?
        }
        _ => return None,
    };
    let (header, data) = rest.split_at_checked(length)?;
    Some((std::str::from_utf8(header).ok()?, data))
}

/// The text of a field of the header, a Python dict literal, up to the next comma outside brackets.
fn field<'a>(header: &'a str, name: &str) -> Result<&'a str, String> {
    let absent = || format!("has no `{name}` in its header");
    let at = header.find(&format!("'{name}':")).ok_or_else(absent)?;
    let rest = header[at..].split_once(':').ok_or_else(absent)?.1;
    let mut depth = 0;
    let end = rest.find(|c: char| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        depth == 0 && (c == ',' || c == '}')
    });
    Ok(rest[..end.unwrap_or(rest.len())].trim())
}

fn shape(header: &str) -> Result<(usize, usize), String> {
    let text = field(header, "shape")?;
    let sizes: Vec<&str> = text.trim_matches(['(', ')']).split(',').map(str::trim).filter(|s| !s.is_empty()).collect();
    match sizes.as_slice() {
        [rows, dim] => rows.parse().ok().zip(dim.parse().ok()).ok_or_else(|| format!("has shape {text}")),
        _ => Err(format!("has shape {text}; (rows, dim) is expected")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn reads_what_numpy_writes() {
        let data: Vec<u8> = [1.0f32, 2.0, 3.0, 4.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        let bytes = file("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }   \n", &data);
        assert_eq!(parse(&bytes).unwrap(), NpyMatrix { rows: 2, dim: 2, values: vec![1.0, 2.0, 3.0, 4.0] });
    }

    #[test]
    fn refuses_the_rest_with_a_reason() {
        let check = |bytes: &[u8], expect: &str| {
            let error = parse(bytes).unwrap_err();
            assert!(error.contains(expect), "{error:?} lacks {expect:?}");
        };
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }";
        check(b"", "not a whole .npy file");
        check(&file(header, &[0; 16])[..20], "not a whole .npy file");
        check(&file(header, &[0; 12]), "12 bytes of data");
        check(&file(&header.replace("False", "True"), &[0; 16]), "Fortran");
        check(&file(&header.replace("<f4", "<i8"), &[0; 16]), "<i8");
        check(&file(&header.replace("(2, 2)", "(4,)"), &[0; 16]), "(rows, dim)");
    }
}
