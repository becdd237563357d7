//! A loaded GGUF: its vocabulary, its chat template, its limits.

use crate::Error;
use crate::template::ChatTemplate;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;
use std::path::Path;
use std::sync::OnceLock;

/// One message of a conversation, as a chat template sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// `system`, `user`, `assistant` or whatever else the template knows.
    pub role: String,
    /// Its text.
    pub content: String,
}

/// A tokenised prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt(pub(crate) Vec<LlamaToken>);

impl Prompt {
    /// Tokens in the prompt.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True for a prompt of no tokens, which cannot be run.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A model in memory, shared by its engine and by those who tokenise for it.
pub struct Model {
    pub(crate) inner: LlamaModel,
    name: String,
    template: Option<ChatTemplate>,
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
        let mut model = Self { inner, name: name.or(stem).unwrap_or(shown), template: None };
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

    /// The prompt for a conversation, by the model's own template.
    pub fn chat_prompt(&self, messages: &[Message]) -> Result<Prompt, Error> {
        let template = self.template.as_ref().ok_or(Error::NoTemplate)?;
        let text = template.render(messages)?;
        // The template writes the special tokens itself, so none is added but BOS where it is missing.
        let vocab = self.inner.vocab();
        let mut tokens = vocab.tokenize(text.as_bytes(), true, true);
        if tokens.len() > 1 && tokens[0] == vocab.bos() && tokens[1] == tokens[0] {
            tokens.remove(0);
        }
        Ok(Prompt(tokens))
    }

    /// The prompt for a plain completion. Text that looks like a special token stays text.
    pub fn text_prompt(&self, text: &str) -> Prompt {
        Prompt(self.inner.vocab().tokenize(text.as_bytes(), true, false))
    }

    /// The prompt from token ids; None if one is not in the vocabulary.
    pub fn token_prompt(&self, ids: &[u32]) -> Option<Prompt> {
        let size = self.inner.vocab().n_tokens();
        let checked = ids.iter().map(|id| i32::try_from(*id).ok().filter(|t| *t < size));
        checked.map(|id| id.map(LlamaToken)).collect::<Option<Vec<_>>>().map(Prompt)
    }

    /// A token's bytes; special tokens have none.
    pub(crate) fn piece(&self, token: LlamaToken) -> Vec<u8> {
        self.inner.vocab().token_to_piece(token, false, None)
    }
}
