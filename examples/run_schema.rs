//! Prints the JSON Schema of run files: `cargo run --example run_schema > schema/run.schema.json`.

fn main() {
    let schema = schemars::schema_for!(llmroof::run::Run);
    match serde_json::to_string_pretty(&schema) {
        Ok(text) => println!("{text}"),
        Err(e) => eprintln!("error: {e}"),
    }
}
