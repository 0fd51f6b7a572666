public import JSON

/// What is wrong with a request, in the form that OpenAI's clients expect.
public struct APIError: Error, Hashable, Sendable {
    public var status: Int
    public var message: String
    public var parameter: String?
    public var code: String?

    public init(status: Int = 400, _ message: String, parameter: String? = nil, code: String? = nil) {
        self.status = status
        self.message = message
        self.parameter = parameter
        self.code = code
    }

    public var json: JSONValue {
        [
            "error": [
                "message": .string(message),
                "type": .string(
                    status == 401 ? "authentication_error" : status >= 500 ? "server_error" : "invalid_request_error"),
                "param": parameter.map { .string($0) } ?? .null, "code": code.map { .string($0) } ?? .null,
            ]
        ]
    }
}
