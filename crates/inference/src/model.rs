//! A loaded GGUF: its vocabulary, its chat template, its limits.

use crate::Error;
use crate::markers::{Markers, Part};
use crate::template::ChatTemplate;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token_type::LlamaTokenAttr;
use ports::Message;
use std::path::Path;
use std::sync::OnceLock;

/// A model in memory, shared by its engine and by those who tokenise for it.
pub struct Model {
    pub(crate) inner: LlamaModel,
    name: String,
    template: Option<ChatTemplate>,
    markers: Markers,
}

/// llama.cpp's process-wide state.
pub(crate) fn backend() -> Result<&'static LlamaBackend, Error> {
    static BACKEND: OnceLock<Result<LlamaBackend, llama_cpp_2::LlamaCppError>> = OnceLock::new();
    let started = BACKEND.get_or_init(|| {
        llama_cpp_2::send_logs_to_tracing(llama_cpp_2::LogOptions::default());
        LlamaBackend::init()
    });
    match started {
        Ok(backend) => Ok(backend),
        Err(_) => Err(Error::Start(llama_cpp_2::LlamaCppError::BackendAlreadyInitialized)),
    }
}

impl Model {
    /// Loads the GGUF file at `path`.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let shown = path.display().to_string();
        std::fs::File::open(path)
            .map_err(|source| Error::Unreadable { path: shown.clone(), source })?;
        let inner = LlamaModel::load_from_file(backend()?, path, &LlamaModelParams::default())
            .map_err(|source| Error::Load { path: shown.clone(), source })?;
        let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned());
        let name = inner.meta_val_str("general.name").ok().filter(|n| !n.is_empty());
        let markers = Markers::new(control_texts(&inner))?;
        let name = name.or(stem).unwrap_or(shown);
        let mut model = Self { inner, name, template: None, markers };
        model.template = model.compile_template()?;
        Ok(model)
    }

    fn compile_template(&self) -> Result<Option<ChatTemplate>, Error> {
        let Ok(source) = self.inner.chat_template(None) else { return Ok(None) };
        let source =
            source.to_string().map_err(|_| Error::Template("it is not valid UTF-8".into()))?;
        let vocab = self.inner.vocab();
        let text = |t| vocab.text(t).map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        let (bos, eos) = (vocab.bos(), vocab.eos());
        let text = |t: LlamaToken| if t.0 < 0 { String::new() } else { text(t) };
        ChatTemplate::new(source, text(bos), text(eos)).map(Some)
    }

    /// The model's own name, or its file's.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Tokens of context that it was made for.
    pub fn trained_context(&self) -> u32 {
        self.inner.n_ctx_train()
    }

    /// The prompt for a conversation, as token ids, by the model's own template. Only what the template itself writes
    /// becomes a control token: the same text in a message stays text.
    pub fn chat_prompt(&self, messages: &[Message]) -> Result<Vec<u32>, Error> {
        let template = self.template.as_ref().ok_or(Error::NoTemplate)?;
        let hidden: Vec<Message> = messages
            .iter()
            .map(|m| Message { role: m.role.clone(), content: self.markers.hide(&m.content) })
            .collect();
        let text = template.render(&hidden)?;
        let vocab = self.inner.vocab();
        let mut tokens = Vec::new();
        for (nth, part) in self.markers.parts(&text).into_iter().enumerate() {
            let (text, control) = match part {
                Part::Template(text) => (text, true),
                Part::Plain(text) => (text, false),
            };
            tokens.extend(vocab.tokenize(text.as_bytes(), nth == 0, control));
        }
        // The template writes the special tokens itself, so none is added but BOS where it is missing.
        if tokens.len() > 1 && tokens[0] == vocab.bos() && tokens[1] == tokens[0] {
            tokens.remove(0);
        }
        Ok(ids(&tokens))
    }

    /// The prompt for a plain completion, as token ids. Text that looks like a special token stays text.
    pub fn text_prompt(&self, text: &str) -> Vec<u32> {
        ids(&self.inner.vocab().tokenize(text.as_bytes(), true, false))
    }

    /// Whether all of these token ids are in the vocabulary.
    pub fn has(&self, ids: &[u32]) -> bool {
        let size = self.inner.vocab().n_tokens();
        ids.iter().all(|id| i32::try_from(*id).is_ok_and(|t| t < size))
    }

    /// A token's bytes; special tokens have none.
    pub(crate) fn piece(&self, token: LlamaToken) -> Vec<u8> {
        self.inner.vocab().token_to_piece(token, false, None)
    }
}

fn ids(tokens: &[LlamaToken]) -> Vec<u32> {
    tokens.iter().map(|token| token.0.cast_unsigned()).collect()
}

/// The texts that llama.cpp takes for tokens only where it is told to parse special ones.
fn control_texts(model: &LlamaModel) -> Vec<String> {
    let vocab = model.vocab();
    let control = |token: &LlamaToken| {
        let attrs = vocab.attr(*token);
        attrs.contains(LlamaTokenAttr::Control) || attrs.contains(LlamaTokenAttr::Unknown)
    };
    let text = |token| vocab.text(token).map(|text| text.to_string_lossy().into_owned());
    vocab.tokens().filter(control).filter_map(text).filter(|text| !text.is_empty()).collect()
}
