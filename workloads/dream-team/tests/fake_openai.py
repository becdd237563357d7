"""A tiny OpenAI-compatible server for tests: says the same words to everybody and counts who asked."""

import http.server
import json
import sys
import threading


class Handler(http.server.BaseHTTPRequestHandler):
    """/v1/models and /v1/chat/completions."""

    protocol_version = "HTTP/1.1"
    questions = []

    def reply(self, status, document):
        """Answers with JSON."""
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        """The list of models."""
        self.reply(200, {"object": "list", "data": [{"id": "test-double", "object": "model", "created": 0, "owned_by": "tests"}]})

    def do_POST(self):
        """A completion."""
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        question = request["messages"][-1]["content"]
        Handler.questions.append(question)
        self.reply(200, {
            "id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": "test-double",
            "choices": [{"index": 0, "finish_reason": "stop",
                         "message": {"role": "assistant", "content": "These words come from a test double."}}],
            "usage": {"prompt_tokens": len(question.split()), "completion_tokens": 7, "total_tokens": len(question.split()) + 7},
        })

    def log_message(self, *_):
        """Silent."""


def serve():
    """Starts the server in a thread; returns it and its base URL."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_port}/v1"


if __name__ == "__main__":
    running, url = serve()
    print(url, flush=True)
    sys.stdin.read()
