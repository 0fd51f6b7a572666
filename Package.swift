// swift-tools-version: 6.2
import PackageDescription

let strict: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

/// The program of a package leaves out what it does not ask for: Tools/packaging/build.sh.
let packaged = Context.environment["ATOLL_PACKAGED"] != nil

/// A Swift target in its layer's folder. The layers' names are the folders' names; imports point upward only.
func module(
    _ layer: String, _ name: String, _ dependencies: [Target.Dependency] = [], exclude: [String] = []
) -> Target {
    .target(
        name: name, dependencies: dependencies, path: "Sources/\(layer)/\(name)", exclude: exclude,
        swiftSettings: strict + (decides.contains(name) ? small : []))
}

/// Modules that decide, tell and draw, and compute next to nothing: of a package they are made small, all others fast.
let decides: Set<String> = [
    "Messages", "Record", "Consensus", "Coordination", "Membership", "Daemon", "Pools", "Lending", "Sensors",
    "Telemetry",
    "Topologies", "Node", "Web", "Charts", "Benchmarks", "Experiments", "Completions", "CompletionAPI", "Datasets",
    "JSON",
]
let small: [SwiftSetting] = packaged ? [.unsafeFlags(["-Osize"], .when(configuration: .release))] : []

/// Of tests that compute little themselves: what they test is optimised all the same, and to optimise them takes longer than it saves.
let plain: [SwiftSetting] = [.unsafeFlags(["-Onone"], .when(configuration: .release))]

/// - Parameter computes: much is computed in the tests themselves.
func tests(
    _ name: String, _ dependencies: [Target.Dependency], exclude: [String] = [], computes: Bool = true
) -> Target {
    .testTarget(
        name: "\(name)Tests", dependencies: dependencies, path: "Tests/\(name)Tests", exclude: exclude,
        swiftSettings: computes ? strict : strict + plain)
}

let protobuf = Target.Dependency.product(name: "SwiftProtobuf", package: "swift-protobuf")
let yams = Target.Dependency.product(name: "Yams", package: "Yams")
let swarm: [Target.Dependency] = ["Messages", "Content", "Consensus", "Record", "Coordination", "Membership"]
let arguments = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")

let unasked: [Target.Dependency] = packaged ? ["NoLocaleData"] : []

let package = Package(
    name: "atoll-training",
    products: [.executable(name: "atoll", targets: ["atoll"])],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2"),
        .package(url: "https://github.com/apple/swift-protobuf", exact: "1.39.0"),
        .package(url: "https://github.com/jpsim/Yams", exact: "6.2.2"),
    ],
    targets: [
        .systemLibrary(
            name: "CUV", path: "Sources/System/CUV", pkgConfig: "libuv", providers: [.apt(["libuv1-dev"])]),
        .systemLibrary(
            name: "COpenSSL", path: "Sources/System/COpenSSL", pkgConfig: "openssl", providers: [.apt(["libssl-dev"])]),
        .systemLibrary(
            name: "CMicroHTTPD", path: "Sources/System/CMicroHTTPD", pkgConfig: "libmicrohttpd",
            providers: [.apt(["libmicrohttpd-dev"])]),
        .target(name: "Kernels", path: "Sources/Kernels"),

        module("Base", "Primitives"),
        module("Base", "Digests", ["Primitives", "COpenSSL"]),
        module(
            "Base", "Wire", ["Primitives", "Digests", protobuf],
            exclude: ["Protocol/swarm.proto", "Protocol/tensorboard.proto"]),

        module("Engines", "Compute", ["Primitives", "Digests", "Wire", "Kernels"]),
        module("Engines", "CPU", ["Primitives", "Kernels", "Compute"]),
        module("Engines", "Worker", ["Primitives", "Kernels", "Compute", "CPU"]),

        module("Cores", "Links", ["Primitives"]),
        module("Cores", "Telemetry", ["Primitives"]),
        module("Cores", "Kademlia", ["Primitives", "Digests", "Wire", "Telemetry"]),
        module("Cores", "Paths", ["Primitives"]),
        module("Cores", "Flows", ["Primitives", "Digests"]),
        module("Cores", "Pools", ["Primitives", "Digests", "Wire"]),
        module("Cores", "Channels", ["Primitives", "Digests", "Wire", "Paths", "Pools"]),
        module("Formats", "Topologies", ["Primitives", "Links", yams]),
        module("Formats", "Experiments", ["Primitives", "Topologies"]),
        module("Cores", "Lending", ["Primitives", "Telemetry", "Topologies"]),
        module("Cores", "Exchange", ["Primitives", "Wire", "Kernels"]),
        module(
            "Cores", "Training",
            ["Primitives", "Digests", "Wire", "Kernels", "Compute", "CPU", "Exchange", "Datasets"]),
        module("Cores", "Planning", ["Primitives", "Links", "Topologies", "Kernels", "Compute", "Exchange"]),
        module("Cores", "Consensus", ["Primitives", "Digests", "Wire"]),
        module(
            "Cores", "Messages", ["Primitives", "Digests", "Wire", "Paths", "Channels", "Exchange", "Consensus"]),
        module("Cores", "Content", ["Primitives", "Digests", "Wire", "Messages", "Training"]),
        module(
            "Cores", "Record", ["Primitives", "Digests", "Wire", "Messages", "Exchange", "Training", "Consensus"]),
        module(
            "Cores", "Coordination",
            [
                "Primitives", "Digests", "Wire", "Telemetry", "Topologies", "Links", "Planning", "Exchange", "Training",
                "Messages", "Content", "Consensus", "Record",
            ]),
        module(
            "Cores", "Membership",
            [
                "Primitives", "Digests", "Wire", "Telemetry", "Exchange", "Training", "Messages", "Content",
                "Consensus",
                "Record",
            ]),
        module(
            "Cores", "Daemon",
            swarm + [
                "Primitives", "Digests", "Wire", "Kademlia", "Paths", "Pools", "Channels", "Telemetry", "Training",
                "Planning",
            ]),

        module("Engines", "Inference", ["Primitives", "Kernels"]),

        module("Formats", "JSON"),
        module("Formats", "Tokenizers", ["Primitives", "Digests", "JSON"]),
        module("Formats", "Checkpoints", ["Primitives", "JSON"]),
        module("Formats", "Datasets", ["Primitives", "JSON", "Tokenizers"]),
        module("Formats", "CompletionAPI", ["JSON", "Tokenizers"]),
        module("Cores", "Completions", ["Primitives", "Tokenizers"]),

        .target(
            name: "Charts", dependencies: ["Primitives", "Topologies", "Planning"], path: "Sources/Charts",
            swiftSettings: strict),
        .target(
            name: "Benchmarks",
            dependencies: [
                "Primitives", "Wire", "Links", "Flows", "Channels", "Topologies", "Kernels", "Compute", "CPU",
                "Exchange",
                "Training", "Planning",
            ],
            path: "Sources/Benchmarks", swiftSettings: strict),

        module("Drivers", "Files", ["Primitives"]),
        module("Drivers", "Sensors", ["Primitives", "Lending"]),
        module(
            "Drivers", "Weights",
            [
                "Primitives", "Digests", "JSON", "Checkpoints", "Tokenizers", "Files", "Exchange", "Training",
                "Inference",
            ]),
        module("Drivers", "Web", ["Primitives", "EventLoop", "CUV", "CMicroHTTPD"]),
        module("Drivers", "EventLoop", ["Primitives", "CUV"]),
        module(
            "Drivers", "SecureTransport",
            ["Primitives", "Digests", "Links", "Flows", "Channels", "EventLoop", "COpenSSL"]),
        module(
            "Drivers", "Node",
            swarm + [
                "Primitives", "Digests", "Wire", "Links", "Topologies", "Planning", "Compute", "CPU", "Worker",
                "Training", "Daemon", "Paths", "Pools", "Channels", "Kademlia", "Telemetry", "EventLoop",
                "SecureTransport", "Exchange", "Lending", "Sensors", "Web",
                "Checkpoints", "Weights", "Tokenizers", "Inference", yams,
            ]),
        module("Drivers", "VirtualNetworks", ["Primitives", "Digests", "Links", "Flows"]),
        module(
            "Drivers", "Simulation",
            swarm + [
                "VirtualNetworks",
                "Primitives", "Digests", "Wire", "Links", "Topologies", "Planning", "Training", "Daemon",
                "Paths", "Channels", "Kademlia", "Telemetry", "Exchange",
            ]),
        .executableTarget(
            name: "atoll",
            dependencies: unasked + swarm + [
                "Kernels", "Primitives", "Digests", "Wire", "Links", "Telemetry", "Kademlia", "Paths", "Pools",
                "Channels",
                "Topologies",
                "Planning", "Lending", "Sensors",
                "Experiments", "Exchange", "Training", "Node", "Daemon", "Simulation", "SecureTransport",
                "Files", "JSON", "Tokenizers", "Checkpoints", "Weights", "Datasets", "CompletionAPI", "Completions",
                "Inference", "Web", "EventLoop", "CUV", "Charts", "Benchmarks", arguments,
            ],
            path: "Sources/Programs/atoll", swiftSettings: strict + small),

        tests("Base", ["Primitives", "Digests", "Wire"]),
        tests("Links", ["Primitives", "Links"]),
        tests("Telemetry", ["Primitives", "Telemetry"], computes: false),
        tests(
            "Kademlia", ["Primitives", "Digests", "Wire", "Links", "Kademlia", "VirtualNetworks"],
            exclude: ["Corpus"], computes: false),
        tests(
            "Channels", ["Primitives", "Digests", "Wire", "Links", "Paths", "Pools", "Channels", "VirtualNetworks"],
            computes: false),
        tests("Pools", ["Primitives", "Digests", "Wire", "Pools"], computes: false),
        tests("VirtualNetworks", ["Primitives", "Links", "Flows", "VirtualNetworks"]),
        tests("Paths", ["Primitives", "Paths"], computes: false),
        tests("Flows", ["Primitives", "Flows", "Benchmarks"], computes: false),
        tests(
            "Formats",
            ["Primitives", "Files", "JSON", "Tokenizers", "Checkpoints", "Datasets", "CompletionAPI", "Completions"],
            exclude: ["Corpus"], computes: false),
        tests("Topologies", ["Primitives", "Links", "Topologies"], exclude: ["Corpus"], computes: false),
        tests("Experiments", ["Primitives", "Links", "Topologies", "Experiments"], computes: false),
        tests("Lending", ["Primitives", "Telemetry", "Topologies", "Lending", "Sensors"], computes: false),
        tests("Charts", ["Primitives", "Links", "Topologies", "Planning", "Charts"], computes: false),
        tests("Benchmarks", ["Benchmarks"]),
        tests(
            "Planning",
            ["Primitives", "Links", "Compute", "Exchange", "Topologies", "Planning", "Charts", "Benchmarks"]),
        tests(
            "Exchange", ["Primitives", "Wire", "Kernels", "Exchange", "Checkpoints", "Weights"], exclude: ["Corpus"]),
        tests(
            "Training",
            ["Primitives", "Digests", "Wire", "Kernels", "Compute", "CPU", "Exchange", "Training"]),
        tests("Worker", ["Primitives", "Compute", "CPU", "Worker", "Training"], computes: false),
        tests(
            "SecureTransport",
            ["Primitives", "Digests", "Links", "Flows", "Channels", "EventLoop", "SecureTransport"], computes: false),
        .target(
            name: "JobFixtures", dependencies: swarm + ["Primitives", "Digests", "Wire", "Training"],
            path: "Tests/JobFixtures", swiftSettings: strict),
        tests("Record", swarm + ["Primitives", "Digests", "Wire", "Training", "JobFixtures"], computes: false),
        tests(
            "Coordination",
            swarm + [
                "Primitives", "Digests", "Wire", "Planning", "Topologies", "Training", "Telemetry", "Exchange",
                "JobFixtures",
            ], computes: false),
        tests(
            "Daemon",
            swarm + [
                "Primitives", "Digests", "Wire", "Kademlia", "Paths", "Channels", "Telemetry", "Exchange", "Training",
                "Planning",
                "Daemon", "JobFixtures",
            ], computes: false),
        tests("Consensus", ["Primitives", "Digests", "Wire", "Consensus"], computes: false),
        tests(
            "Content", ["Primitives", "Digests", "Wire", "Messages", "Content", "Training", "JobFixtures"],
            computes: false),
        tests(
            "Membership",
            swarm + [
                "Primitives", "Digests", "Wire", "Channels", "Training", "Telemetry", "Exchange", "JobFixtures",
            ], computes: false),
        tests(
            "Simulation",
            swarm + [
                "Primitives", "Digests", "Exchange", "Kademlia", "Links", "Topologies", "Planning", "Training",
                "Telemetry", "Datasets", "Wire",
                "Simulation", "Benchmarks", "JobFixtures",
            ], exclude: ["Transcripts"], computes: false),
        tests(
            "Weights",
            [
                "Primitives", "Files", "JSON", "Tokenizers", "Checkpoints", "Kernels", "Training", "Inference",
                "Weights",
            ],
            computes: false),
        tests("Web", ["Primitives", "EventLoop", "Web"]),
        tests(
            "Node",
            swarm + [
                "Primitives", "Digests", "Wire", "Training", "Telemetry", "Flows", "Channels", "EventLoop",
                "SecureTransport", "Paths", "Pools", "Links", "Topologies", "Lending", "Sensors", "Daemon", "Node",
                "JobFixtures",
            ], computes: false),
        // They run the program: so it is compiled beside tests, and only linked after them.
        tests("EndToEnd", ["Primitives", "atoll"], computes: false),
    ] + (packaged ? [.target(name: "NoLocaleData", path: "Tools/packaging/NoLocaleData")] : []),
    swiftLanguageModes: [.v6]
)
