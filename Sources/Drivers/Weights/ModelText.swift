import Checkpoints
public import Files
import JSON
public import Tokenizers

/// What a model's folder says about text: tokenizer, chat template, tokens that end an answer.
public struct ModelText: Sendable {
    public let tokenizer: Tokenizer
    /// nil where the folder has none that is known.
    public let template: ChatTemplate?
    /// Whether the folder has a template at all.
    public let hasTemplate: Bool
    /// Tokens after which there is nothing more to say.
    public let endings: Set<UInt32>
    /// The token that ends a text, if the folder names one.
    public let ending: UInt32?

    public enum Failure: Error, CustomStringConvertible {
        case file(FileError)
        case tokenizer(TokenizerError)
        public var description: String {
            switch self {
            case .file(let error): error.description
            case .tokenizer(let error): error.description
            }
        }
    }

    /// Reads the folder's `tokenizer.json`, and what there is of `tokenizer_config.json`, `chat_template.jinja`,
    /// `generation_config.json` and `config.json`. `template` wins over the folder's.
    public init(_ folder: String, template given: ChatTemplate? = nil) throws(Failure) {
        let path = folder + "/tokenizer.json"
        let bytes: [UInt8]
        do throws(FileError) { bytes = try fileContents(path, limit: 256 << 20) } catch { throw .file(error) }
        let tokenizer: Tokenizer
        do throws(TokenizerError) { tokenizer = try Tokenizer.read(bytes, path: path) } catch {
            throw .tokenizer(error)
        }
        self.tokenizer = tokenizer
        let settings = Self.object(folder + "/tokenizer_config.json")
        let source = Self.templateSource(folder, settings)
        hasTemplate = source != nil
        let template = given ?? source.flatMap(ChatTemplate.init(recognising:))
        self.template = template

        var endings: Set<UInt32> = []
        var first: UInt32?
        for name in ["generation_config.json", "config.json"] {
            let value = Self.object(folder + "/" + name)?["eos_token_id"]
            for id in value?.integer.map({ [$0] }) ?? value?.array?.compactMap(\.integer) ?? [] {
                guard let id = UInt32(exactly: id), id < tokenizer.count else { continue }
                endings.insert(id)
            }
        }
        // A text's own end: what tokenizer_config.json calls so, as a text or as an added token.
        let name = settings?["eos_token"]?.text ?? settings?["eos_token"]?.object?["content"]?.text
        if let id = name.flatMap({ tokenizer.id(ofAdded: $0) }) {
            first = id
            endings.insert(id)
        }
        if let id = template.flatMap({ tokenizer.id(ofAdded: $0.ending) }) { endings.insert(id) }
        self.endings = endings
        ending = first ?? endings.min()
    }

    private static func object(_ path: String) -> JSONObject? {
        guard let bytes = try? fileContents(path, limit: 16 << 20) else { return nil }
        return (try? JSONValue(parsing: bytes))?.object
    }

    private static func templateSource(_ folder: String, _ settings: JSONObject?) -> String? {
        if let bytes = try? fileContents(folder + "/chat_template.jinja", limit: 1 << 20) {
            return String(decoding: bytes, as: UTF8.self)
        }
        let value = settings?["chat_template"]
        if let text = value?.text { return text }
        // Several by name: the one for talking.
        return value?.array?.first { $0.object?["name"]?.text == "default" }?.object?["template"]?.text
    }
}
