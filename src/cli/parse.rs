//! Values of options that clap does not know how to read.

use std::time::Duration;

use super::{Condition, LayersArg, Prices};

pub(super) fn parse_layers(text: &str) -> Result<LayersArg, String> {
    match text {
        "auto" => Ok(LayersArg::Auto),
        "all" => Ok(LayersArg::All),
        number => match number.parse() {
            Ok(n) if n > 0 => Ok(LayersArg::Count(n)),
            _ => Err("write a number of layers, all, or auto".into()),
        },
    }
}

pub(super) fn parse_share(text: &str) -> Result<f64, String> {
    let (number, scale) = match text.strip_suffix('%') {
        Some(number) => (number, 0.01),
        None => (text, 1.0),
    };
    match number.trim().parse::<f64>() {
        Ok(value) if (0.0..1.0).contains(&(value * scale)) => Ok(value * scale),
        _ => Err("write a share as 5% or 0.05, at least 0 and under 100%".into()),
    }
}

pub(super) fn parse_condition(text: &str) -> Result<Condition, String> {
    Condition::ALL.into_iter().find(|condition| condition.name() == text).ok_or_else(|| {
        let names = Condition::ALL.map(Condition::name).join(", ");
        format!("there is no condition {text}; known are {names}")
    })
}

pub(super) fn parse_prices(text: &str) -> Result<Prices, String> {
    let wrong = || "write dollars per hour as BASE=1.5/h,NEW=3/h".to_string();
    let mut prices = Prices::default();
    for one in text.split(',') {
        let (side, price) = one.split_once('=').ok_or_else(wrong)?;
        let price = parse_dollars(price).map_err(|_| wrong())?;
        let place = match side.trim().to_ascii_uppercase().as_str() {
            "BASE" => &mut prices.base,
            "NEW" => &mut prices.new,
            _ => return Err(wrong()),
        };
        if place.replace(price).is_some() {
            return Err(wrong());
        }
    }
    Ok(prices)
}

pub(super) fn parse_dollars(text: &str) -> Result<f64, String> {
    let number = text.trim().trim_start_matches('$').trim_end_matches("/h").trim();
    let price = number.parse::<f64>().ok().filter(|price| price.is_finite() && *price > 0.0);
    price.ok_or_else(|| "write dollars per hour as 2.5 or 2.5/h".into())
}

pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, scale) = match text.strip_suffix('m') {
        Some(minutes) => (minutes, 60.0),
        None => (text.strip_suffix('s').unwrap_or(text), 1.0),
    };
    match number.parse::<f64>() {
        Ok(value) if value > 0.0 && value * scale <= 86_400.0 => Ok(Duration::from_secs_f64(value * scale)),
        _ => Err("write a time as 60s or 5m, at most a day".into()),
    }
}
