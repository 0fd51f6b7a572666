import Foundation
import Node
import Planning
import Primitives
import Topologies

/// A plan from a file: what `plan --json` and `replay --json` print, a plan alone, or a record.
struct PlanInput {
    private enum Content {
        case plan(Plan)
        case summary(PlanSummary)
        case recorded(RecordedPlan)
    }
    private struct Wrapped: Decodable { var plan: Plan }
    private let content: Content
    private let file: String
    private static let limit = 64 << 20

    init(_ recorded: RecordedPlan, file: String) { self.init(.recorded(recorded), file: file) }
    init(record file: String) throws {
        guard let record = try loadTopology(file).record else {
            throw NodeError.badInput("\(file): it has no record; write one with atoll launch --record FILE")
        }
        guard let plan = record.plan else {
            throw NodeError.badInput("\(file): its record has no plan: an earlier version wrote it")
        }
        self.init(plan, file: file)
    }
    init(file: String) throws {
        let bytes = try readFile(file, limit: Self.limit)
        guard bytes.first(where: { !" \t\r\n".utf8.contains($0) }) == UInt8(ascii: "{") else {
            try self.init(record: file)
            return
        }
        self.init(try Self.content(bytes, file), file: file)
    }
    private init(_ content: Content, file: String) {
        self.content = content
        self.file = file
    }

    private static func content(_ bytes: [UInt8], _ file: String) throws -> Content {
        let data = Data(bytes)
        let decoder = JSONDecoder()
        do {
            guard let object = try JSONSerialization.jsonObject(with: data) as? [String: Any] else {
                throw NodeError.badInput("\(file): not a JSON object")
            }
            if object["plan"] is [String: Any] { return .plan(try decoder.decode(Wrapped.self, from: data).plan) }
            if object["batch_tokens"] != nil { return .summary(try decoder.decode(PlanSummary.self, from: data)) }
            return .plan(try decoder.decode(Plan.self, from: data))
        } catch let error as DecodingError {
            throw NodeError.badInput("\(file): \(Self.sentence(error)); write one with atoll plan --json")
        } catch let error as NodeError {
            throw error
        } catch {
            throw NodeError.badInput("\(file): no plan, and no JSON that ends; write one with atoll plan --json")
        }
    }

    private static func sentence(_ error: DecodingError) -> String {
        func path(_ context: DecodingError.Context, _ key: (any CodingKey)? = nil) -> String {
            let keys = context.codingPath + [key].compactMap { $0 }
            let words = keys.map { $0.intValue.map { "[\($0)]" } ?? ".\($0.stringValue)" }.joined()
            return words.hasPrefix(".") ? String(words.dropFirst()) : words.isEmpty ? "the file" : words
        }
        return switch error {
        case .keyNotFound(let key, let context): "no plan: \(path(context, key)) is missing"
        case .typeMismatch(_, let context), .valueNotFound(_, let context):
            "no plan: \(path(context)) is of another kind"
        case .dataCorrupted(let context): "no plan: \(path(context)): \(context.debugDescription)"
        @unknown default: "no plan"
        }
    }

    /// The plan, once it is sure that it fits.
    func plan(_ topology: Topology, _ job: JobManifest) throws -> Plan {
        do throws(PlanningError) {
            let plan: Plan
            switch content {
            case .plan(let given): plan = given
            case .summary(let summary): plan = try Plan(summary, job: job)
            case .recorded(let recorded): plan = try Plan(recorded)
            }
            if let misfit = plan.misfit(topology, job: job) { throw .impossible(misfit) }
            return plan
        } catch {
            throw NodeError.badInput("\(file): \(error.description)")
        }
    }
}
