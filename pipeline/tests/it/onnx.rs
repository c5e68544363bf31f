//! A tiny image encoder as an ONNX file, written by hand, so that alignment is tested without the
//! shared models: the mean of each colour, `[1, 3, side, side] -> [1, 3, 1, 1]`.

/// Bytes of the model: one GlobalAveragePool from `pixel_values` to `emb`.
pub(crate) fn mean_colour(side: u64) -> Vec<u8> {
    let node = [text(1, "pixel_values"), text(2, "emb"), text(3, "pool"), text(4, "GlobalAveragePool")].concat();
    let graph = [
        bytes(1, &node),
        text(2, "mean_colour"),
        bytes(11, &value("pixel_values", &[1, 3, side, side])),
        bytes(12, &value("emb", &[1, 3, 1, 1])),
    ]
    .concat();
    // ir_version 8, the graph, opset 13.
    [number(1, 8), bytes(7, &graph), bytes(8, &number(2, 13))].concat()
}

/// A ValueInfoProto of f32.
fn value(name: &str, shape: &[u64]) -> Vec<u8> {
    let dims: Vec<u8> = shape.iter().flat_map(|size| bytes(1, &number(1, *size))).collect();
    let tensor = [number(1, 1), bytes(2, &dims)].concat();
    [text(1, name), bytes(2, &bytes(1, &tensor))].concat()
}

fn text(field: u64, value: &str) -> Vec<u8> {
    bytes(field, value.as_bytes())
}

fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(value.len() as u64), value.to_vec()].concat()
}

fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}
