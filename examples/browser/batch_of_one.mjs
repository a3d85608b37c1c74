// The web runtime refuses images where a model leaves their number free (-1); a .tflite file also says 1 there.

/** Writes each tensor's `shape` over its `shape_signature`, in the bytes of a .tflite file (see its schema.fbs). */
export function fixBatch(file) {
  const bytes = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const int = (at) => bytes.getInt32(at, true);
  const target = (at) => at + bytes.getUint32(at, true);
  /** Returns where the vector in a field of a table begins, if the table has one. */
  const vector = (table, field) => {
    const fields = table - int(table);
    const entry = 4 + 2 * field;
    const offset = entry < bytes.getUint16(fields, true) ? bytes.getUint16(fields + entry, true) : 0;
    return offset ? target(table + offset) : undefined;
  };
  const tables = (at) => Array.from({ length: int(at) }, (_, i) => target(at + 4 + 4 * i));

  for (const graph of tables(vector(target(0), 2))) {
    for (const tensor of tables(vector(graph, 0))) {
      const [shape, signature] = [vector(tensor, 0), vector(tensor, 7)];
      if (signature !== undefined) file.copyWithin(signature, shape, shape + 4 + 4 * int(shape));
    }
  }
  return file;
}
