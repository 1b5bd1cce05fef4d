//! Offers a function as a tool, and asks a model that uses it.

use serde_json::{Value, json};
use sidecall::chat::{ChatLoop, ChatOptions};
use sidecall::{BoxError, Client, HostedTool, ToolError, ToolHost, v1::Effects};

fn price_of(fruit: &Value) -> Result<f64, ToolError> {
    match fruit.as_str() {
        Some("apple") => Ok(0.4),
        Some("pear") => Ok(0.6),
        _ => Err(ToolError::new("There are apples and pears.")),
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let client = Client::new()?;
    let schema = json!({"type": "object", "properties": {"fruit": {"type": "string"}}});
    let get_price = |given: Value, _| async move { price_of(&given["fruit"]) };
    let tool = HostedTool::new("get_fruit_price", "Price in euros.", &schema, get_price)
        .effects(Effects::ReadOnly);
    let host = ToolHost::builder("shop").tool(tool).start(&client)?;
    host.wait_until_attached().await?;

    let options = ChatOptions::new("gpt-5.4-mini").stream().early_start();
    let mut chat = ChatLoop::new(client, async_openai::Client::new(), options)?;
    let answer = chat.run("What do an apple and a pear cost?").await?;
    println!("{}", answer.text);
    Ok(host.close().await?)
}
