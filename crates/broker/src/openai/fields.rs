//! The fields of a request, each read strictly: a mistake is named.

use super::ApiError;
use serde_json::{Map, Value};

/// Below this every whole number has one value as a float of 64 bits (IEEE 754).
const EXACT: f64 = 9_007_199_254_740_992.0;

/// The fields of a JSON object; null counts as absent, as in OpenAI's API.
pub struct Fields<'a>(pub &'a Map<String, Value>);

/// `param` is not what it must be.
pub fn wrong(param: &str, expected: &str, found: &Value) -> ApiError {
    let found = match found {
        Value::Null => "null".to_owned(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => n.to_string(),
        Value::String(_) => "a string".to_owned(),
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    };
    ApiError::invalid_param(param, format!("{param} must be {expected}, not {found}"))
}

impl<'a> Fields<'a> {
    /// The value, if it says anything.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|v| !v.is_null())
    }

    /// A string.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>, ApiError> {
        self.get(key).map(|v| v.as_str().ok_or_else(|| wrong(key, "a string", v))).transpose()
    }

    /// True or false.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>, ApiError> {
        self.get(key).map(|v| v.as_bool().ok_or_else(|| wrong(key, "true or false", v))).transpose()
    }

    /// An object.
    pub fn object(&self, key: &str) -> Result<Option<&'a Map<String, Value>>, ApiError> {
        self.get(key).map(|v| v.as_object().ok_or_else(|| wrong(key, "an object", v))).transpose()
    }

    /// A whole number; `3.0` is one, as JSON has it.
    pub fn whole(&self, key: &str, least: i64) -> Result<Option<i64>, ApiError> {
        let number = |v: &Value| {
            let float = || v.as_f64().filter(|n| n.fract() == 0.0 && n.abs() < EXACT);
            let n = v.as_i64().or_else(|| float().map(|n| n as i64)).filter(|n| *n >= least);
            n.ok_or_else(|| wrong(key, &format!("a whole number of at least {least}"), v))
        };
        self.get(key).map(number).transpose()
    }

    /// A whole number that counts something.
    pub fn count(&self, key: &str, least: u32) -> Result<Option<u32>, ApiError> {
        let most = |n: i64| u32::try_from(n).unwrap_or(u32::MAX);
        Ok(self.whole(key, least.into())?.map(most))
    }

    /// A number within these bounds.
    pub fn number(&self, key: &str, low: f64, high: f64) -> Result<Option<f32>, ApiError> {
        let number = |v: &Value| {
            let n = v.as_f64().filter(|n| (low..=high).contains(n));
            n.map(|n| n as f32)
                .ok_or_else(|| wrong(key, &format!("a number from {low} to {high}"), v))
        };
        self.get(key).map(number).transpose()
    }
}
