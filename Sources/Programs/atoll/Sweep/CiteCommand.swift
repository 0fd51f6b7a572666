import ArgumentParser
import Digests
import Experiments
import Foundation
import Node
import Primitives

/// `atoll cite`: what others need to cite and to repeat an experiment.
struct CiteCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cite",
        abstract: "Make a sweep's folder citable: CITATION.cff, and an RO-Crate from which it can be repeated.")

    @Argument(help: "A folder that sweep or sweep merge has written.") var folder: String
    @Option(help: "Given and family name, as in 'Ada Lovelace'; may be repeated.") var author: [String] = []
    @Option(help: "The data's licence, by its SPDX name.") var license = "CC-BY-4.0"
    @Option(help: "The day it is published on, as 2026-11-27 (default: today).") var date: String?
    @Option(help: "Its title (default: the experiment's name).") var title: String?

    func run() throws {
        guard !author.isEmpty else {
            throw NodeError.badInput("whom should others cite? Give --author 'Given Family', once for each")
        }
        for name in author where name.trimmingCharacters(in: .whitespaces).isEmpty || name.utf8.contains(10) {
            throw NodeError.badInput("--author “\(name)”: a name in one line")
        }
        let isName =
            !license.isEmpty
            && license.utf8.allSatisfy { byte in
                (48...57).contains(byte) || (65...90).contains(byte) || (97...122).contains(byte)
                    || "-.+".utf8.contains(byte)
            }
        guard isName else {
            throw NodeError.badInput("--license \(license): a name of the SPDX list, such as CC-BY-4.0")
        }
        let day = try day()
        let experiment = try SweepExperiment(reading: folder)
        guard experiment.absolute.isEmpty else {
            throw NodeError.badInput(
                "\(folder): the experiment names \(experiment.absolute[0]) by its place on this machine, where others have "
                    + "nothing; name it relative to the experiment's file, and run the sweep again")
        }
        guard isFile(folder + "/results.csv") else {
            throw NodeError.badInput("\(folder) has no results.csv: let atoll sweep or sweep merge end first")
        }
        let table = try SweepFolder(reading: folder).tabled()
        guard let first = table.results.first, try readFile(folder + "/results.csv") == Array(table.csv.utf8) else {
            throw NodeError.badInput(
                "\(folder)/results.csv is not the table of \(folder)/points; write it with atoll sweep or sweep merge")
        }
        guard first.version == experiment.version else {
            throw NodeError.badInput(
                "\(folder): its results are of version \(first.version), its inputs of \(experiment.version)")
        }
        let about = Citation(
            title: title ?? "\(experiment.name): \(experiment.run == "plan" ? "plans" : "replays") by Atoll",
            about: experiment.about.isEmpty ? "An experiment of \(table.results.count) points." : experiment.about,
            authors: author, license: license, day: day, version: experiment.version)
        try writeFile(folder + "/CITATION.cff", Array(about.cff.utf8))
        try writeFile(folder + "/ro-crate-metadata.json", try crate(about, experiment, table))
        print("citation: \(folder)/CITATION.cff\ncrate: \(folder)/ro-crate-metadata.json")
        print("it repeats with: atoll sweep inputs/\(experiment.spec) --out again")
    }

    private func isFile(_ path: String) -> Bool { FileManager.default.fileExists(atPath: path) }

    private func day() throws -> String {
        guard let date else { return Self.day(at: time(nil)) }
        let numbers = date.split(separator: "-", omittingEmptySubsequences: false).compactMap { Int32($0) }
        var parts = tm()
        if numbers.count == 3, (1900...9999).contains(numbers[0]), numbers[1...].allSatisfy({ (1...31).contains($0) }) {
            (parts.tm_year, parts.tm_mon, parts.tm_mday) = (numbers[0] - 1900, numbers[1] - 1, numbers[2])
        }
        // The thirtieth of February comes back as another day.
        guard Self.day(at: timegm(&parts)) == date else {
            throw NodeError.badInput("--date \(date): a day such as 2026-11-27")
        }
        return date
    }
    /// In UTC. Without a formatter: those want ICU's data, which packages leave out.
    private static func day(at moment: Int) -> String {
        var (moment, parts) = (moment, tm())
        gmtime_r(&moment, &parts)
        func digits(_ number: Int32, _ count: Int) -> String {
            let text = String(number)
            return String(repeating: "0", count: max(0, count - text.count)) + text
        }
        return "\(digits(parts.tm_year + 1900, 4))-\(digits(parts.tm_mon + 1, 2))-\(digits(parts.tm_mday, 2))"
    }

    private func crate(_ about: Citation, _ experiment: SweepExperiment, _ table: SweepTable) throws -> [UInt8] {
        func entry(_ path: String, _ name: String, _ kind: String) throws -> CrateFile {
            let bytes = try readFile("\(folder)/\(path)")
            return CrateFile(path: path, name: name, kind: kind, bytes: bytes.count, sha256: sha256(bytes).hex)
        }
        func kind(_ file: String) -> String {
            file.hasSuffix(".yaml") || file.hasSuffix(".yml")
                ? "application/yaml" : file.hasSuffix(".json") ? "application/json" : "text/plain"
        }
        let inputs = try experiment.files.map { try entry("inputs/\($0)", $0, kind($0)) }
        var outputs = [try entry("results.csv", "the table: a line for each point, seed and measure", "text/csv")]
        for result in table.results {
            let path = "points/\(result.point.prefix(32)).json"
            if outputs.contains(where: { $0.path == path }) { continue }
            outputs.append(try entry(path, "point \(result.combination), seed \(result.seed)", "application/json"))
        }
        let command = "atoll sweep inputs/\(experiment.spec) --out again"
        let graph = about.crate(
            inputs: inputs, outputs: outputs + [try entry("CITATION.cff", "how to cite it", "application/yaml")],
            command: command)
        let data = try JSONSerialization.data(
            withJSONObject: graph, options: [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes])
        return Array(data) + [10]
    }
}

/// A file of a crate.
struct CrateFile {
    var path: String
    var name: String
    var kind: String
    var bytes: Int
    var sha256: String
}

/// An experiment as others cite it.
struct Citation {
    var title: String
    var about: String
    var authors: [String]
    var license: String
    var day: String
    var version: String

    /// The Citation File Format, 1.2.0.
    var cff: String {
        func quoted(_ text: String) -> String {
            "\"" + text.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"").replacing("\n", with: " ") + "\""
        }
        var out =
            "cff-version: 1.2.0\nmessage: \"If you use these results, please cite them as below.\"\ntype: dataset\n"
        out +=
            "title: \(quoted(title))\nabstract: \(quoted(about))\ndate-released: \"\(day)\"\nlicense: \(license)\nauthors:\n"
        for author in authors {
            let words = author.split(separator: " ")
            if words.count == 1 {
                out += "  - name: \(quoted(author))\n"
            } else {
                out += "  - given-names: \(quoted(words.dropLast().joined(separator: " ")))\n"
                out += "    family-names: \(quoted(String(words[words.count - 1])))\n"
            }
        }
        out += "references:\n  - type: software\n    title: Atoll\n    version: \(quoted(version))\n"
        return out + "    authors:\n      - name: \"the authors of Atoll\"\n"
    }

    /// RO-Crate 1.1: the graph of `ro-crate-metadata.json`, with the run as an action (Process Run Crate 0.5).
    func crate(inputs: [CrateFile], outputs: [CrateFile], command: String) -> [String: Any] {
        func at(_ id: String) -> [String: Any] { ["@id": id] }
        let people = authors.enumerated().map { index, name in
            ["@id": "#author-\(index + 1)", "@type": "Person", "name": name] as [String: Any]
        }
        let files = (inputs + outputs).map { file -> [String: Any] in
            [
                "@id": CitationPath.encoded(file.path), "@type": "File", "name": file.name, "encodingFormat": file.kind,
                "contentSize": "\(file.bytes)", "sha256": file.sha256,
            ]
        }
        let licence = "https://spdx.org/licenses/\(license)"
        let profile = "https://w3id.org/ro/wfrun/process/0.5"
        var graph: [[String: Any]] = [
            [
                "@id": "ro-crate-metadata.json", "@type": "CreativeWork",
                "conformsTo": at("https://w3id.org/ro/crate/1.1"), "about": at("./"),
            ],
            [
                "@id": "./", "@type": "Dataset", "name": title, "description": about, "datePublished": day,
                "license": at(licence),
                "author": people.count == 1 ? at("#author-1") as Any : people.map { at($0["@id"] as! String) } as Any,
                "conformsTo": at(profile), "hasPart": files.map { at($0["@id"] as! String) }, "mentions": at("#run"),
            ],
            ["@id": licence, "@type": "CreativeWork", "name": license],
            ["@id": profile, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"],
            [
                "@id": "#atoll", "@type": "SoftwareApplication", "name": "Atoll", "softwareVersion": version,
                "description": "Plans, replays and runs the training of language models by volunteers.",
            ],
            [
                "@id": "#run", "@type": "CreateAction", "name": command, "description": "In this folder: \(command)",
                "instrument": at("#atoll"), "agent": at("#author-1"), "endTime": day,
                "object": inputs.map { at(CitationPath.encoded($0.path)) },
                "result": outputs.filter { $0.path != "CITATION.cff" }.map { at(CitationPath.encoded($0.path)) },
            ],
        ]
        graph += people + files
        // RO-Crate 1.1 has no word for a file's digest; Process Run Crate has.
        let words: [Any] = [
            "https://w3id.org/ro/crate/1.1/context", ["sha256": "https://w3id.org/ro/terms/workflow-run#sha256"],
        ]
        return ["@context": words, "@graph": graph]
    }
}

/// A path as a relative URI.
enum CitationPath {
    static func encoded(_ path: String) -> String {
        path.addingPercentEncoding(withAllowedCharacters: .urlPathAllowed) ?? path
    }
}
