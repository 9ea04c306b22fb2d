// Lets the import paths with a version be found without modules.
module sluice.test/gogit

go 1.19
