// swift-tools-version:5.7
// The Swift package over an installed dlk: build and install the library first (docs/metal.md), then
//   DLK_PREFIX=/opt/dlk swift run classify MODEL.dlk PICTURE.png
import Foundation
import PackageDescription

let prefix = ProcessInfo.processInfo.environment["DLK_PREFIX"] ?? "/usr/local"

let package = Package(
  name: "dlk",
  platforms: [.macOS(.v13), .iOS(.v16), .tvOS(.v16)],
  products: [
    .library(name: "Dlk", targets: ["Dlk"]),
    .executable(name: "classify", targets: ["Classify"]),
  ],
  targets: [
    // The C interface is the module CDlk of the installed headers.
    .target(
      name: "Dlk",
      path: "apple/swift/Sources/Dlk",
      swiftSettings: [.unsafeFlags(["-I\(prefix)/include"])],
      linkerSettings: [
        .unsafeFlags(["-L\(prefix)/lib", "-Xlinker", "-rpath", "-Xlinker", "\(prefix)/lib"])
      ]),
    .executableTarget(
      name: "Classify",
      dependencies: ["Dlk"],
      path: "apple/swift/Sources/Classify",
      swiftSettings: [.unsafeFlags(["-I\(prefix)/include"])]),
  ]
)
