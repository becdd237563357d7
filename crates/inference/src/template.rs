//! A model's own chat template (Jinja, from the GGUF), as Hugging Face's tokenizers read it.

use crate::Error;
use minijinja::{Environment, ErrorKind, Value, context};
use ports::Message;

/// A compiled template.
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos: String,
    eos: String,
}

const NAME: &str = "chat";

impl ChatTemplate {
    /// `bos` and `eos` are what the template may write for them.
    pub fn new(source: String, bos: String, eos: String) -> Result<Self, Error> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_unknown_method_callback(python_method);
        environment.add_function("raise_exception", |message: String| -> Result<(), _> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment
            .add_template_owned(NAME, source)
            .map_err(|e| Error::Template(format!("it does not parse: {e}")))?;
        Ok(Self { environment, bos, eos })
    }

    /// The prompt for these messages, ready for the assistant's answer.
    pub fn render(&self, messages: &[Message]) -> Result<String, Error> {
        let messages: Vec<Value> =
            messages.iter().map(|m| context! { role => m.role, content => m.content }).collect();
        self.environment
            .get_template(NAME)
            .and_then(|t| {
                t.render(context! {
                    messages,
                    add_generation_prompt => true,
                    bos_token => self.bos,
                    eos_token => self.eos,
                })
            })
            .map_err(|e| Error::Template(e.to_string()))
    }
}

/// Templates are written for Python: the string methods that they use.
fn python_method(
    _: &minijinja::State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, minijinja::Error> {
    let unknown = || minijinja::Error::from(ErrorKind::UnknownMethod);
    let text = value.as_str().ok_or_else(unknown)?;
    let first = args.first().and_then(Value::as_str);
    Ok(match (method, first) {
        ("strip", None) => text.trim().into(),
        ("lstrip", None) => text.trim_start().into(),
        ("rstrip", None) => text.trim_end().into(),
        ("strip", Some(set)) => text.trim_matches(|c| set.contains(c)).into(),
        ("lstrip", Some(set)) => text.trim_start_matches(|c| set.contains(c)).into(),
        ("rstrip", Some(set)) => text.trim_end_matches(|c| set.contains(c)).into(),
        ("startswith", Some(head)) => text.starts_with(head).into(),
        ("endswith", Some(tail)) => text.ends_with(tail).into(),
        ("upper", _) => text.to_uppercase().into(),
        ("lower", _) => text.to_lowercase().into(),
        ("split", Some(by)) if !by.is_empty() => {
            text.split(by).map(Value::from).collect::<Vec<_>>().into()
        }
        ("replace", Some(old)) => {
            let new = args.get(1).and_then(Value::as_str).ok_or_else(unknown)?;
            text.replace(old, new).into()
        }
        _ => return Err(unknown()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(role: &str, content: &str) -> Message {
        Message { role: role.into(), content: content.into() }
    }

    #[test]
    fn chatml() {
        let source = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m['content'].strip() }}<|im_end|>\n\
                      {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
        let t = ChatTemplate::new(source.into(), String::new(), String::new()).unwrap();
        let text = t.render(&[message("system", "Be brief. "), message("user", "Hi")]).unwrap();
        assert_eq!(
            text,
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
        );
    }

    #[test]
    fn a_refusal_says_why() {
        let source = "{{ raise_exception('roles must alternate') }}";
        let t = ChatTemplate::new(source.into(), String::new(), String::new()).unwrap();
        let error = t.render(&[]).unwrap_err().to_string();
        assert!(error.contains("roles must alternate"), "{error}");
    }
}
