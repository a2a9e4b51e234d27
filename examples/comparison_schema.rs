//! Prints the JSON Schema of comparisons: `cargo run --example comparison_schema > schema/comparison.schema.json`.

fn main() {
    let schema = schemars::schema_for!(llmroof::compare::Comparison);
    match serde_json::to_string_pretty(&schema) {
        Ok(text) => println!("{text}"),
        Err(e) => eprintln!("error: {e}"),
    }
}
