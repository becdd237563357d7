# Read by llama.cpp's own build (`.cargo/config.toml`). Its `common` library holds what its command-line tools share:
# templates, schemas, downloads, arguments. Nothing here calls it, and it takes four times as long to compile as the
# engine does. The wrapper's feature for it cannot be left out: llama-cpp-2 asks for the defaults of llama-cpp-sys-2.
set(LLAMA_BUILD_COMMON OFF CACHE BOOL "nobody uses it" FORCE)
